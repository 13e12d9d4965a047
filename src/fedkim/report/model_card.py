"""The model card of an export: what the model was taught, by whom, how well it does, and what it must not be used for.

Everything comes from the run's result. Sites stand as pseudonyms, and counts of fewer than ten patients aren't told.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedkim.data.smallest_cell import SMALLEST_CELL
from fedkim.evaluation.blindness import worst_blindness
from fedkim.evaluation.tables import ROWS, task_label
from fedkim.report import wording
from fedkim.report.scores import row_order
from fedkim.report.words import figure, interval, signed

_ABOUT_ROWS = {
    "injected": "this model",
    "base": "the language model before injection",
    "blind": "trained and asked without the patient's input",
    "shuffled": "another patient's input",
    "proxy": "the best small model of a trained question",
    "simple": "a logistic regression on global statistics of the input",
    "small_before": "the hospitals' small model",
    "small_after": "the same after injection tuned its encoder",
    "majority": "the most frequent answer",
    "majority_per_template": "the most frequent answer to each kind of question",
}

_NO_FEDERATION = {
    "public": "No hospital took part: the encoders were trained on the server's public data (a reference, not a federation).",
    "centralised": "The hospitals' data were brought together for this run (a reference, not a federation): nothing stayed with them.",
    "local": "One hospital trained by itself (a reference, not a federation): the others' data weren't used.",
}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What the card says about the export itself."""

    name: str
    """Of the folder."""
    task: str
    question: str
    answers: tuple[str, ...] | None
    modalities: tuple[str, ...]
    all_modalities: bool
    """Whether these are all that the task has, as in the scores."""
    seen: bool
    merged: bool
    weights: tuple[float, ...]
    entropy: float
    rank: int
    """Of the LoRA."""
    base: str
    base_origin: str
    base_licence: str
    dtype: str
    data: str
    """What the run's data source is made of."""
    trainers: str = "sites"
    """Who taught the encoders: ``sites``, ``public``, ``centralised`` or ``local``, as in a recipe."""


def model_card(result: Mapping[str, Any], exported: Exported) -> str:
    """``README.md`` of an export, with the front matter that model hubs read."""
    parts = [
        _front(exported),
        _summary(result, exported),
        _use(exported),
        _data(result, exported),
        _scores(result, exported),
        _loading(exported),
        _training(result, exported),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _front(exported: Exported) -> str:
    library = "transformers" if exported.merged else "peft"
    tags = ["fedkim", "federated-learning", "medical", "not-a-medical-device"] + ([] if exported.merged else ["lora"])
    lines = [
        f"library_name: {library}",
        f"base_model: {json.dumps(exported.base)}",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])


def _summary(result: Mapping[str, Any], exported: Exported) -> str:
    run = result["run_info"]
    kind = "A dense language model" if exported.merged else f"A LoRA of rank {exported.rank}"
    synthetic = f"> **{wording.SYNTHETIC}**\n\n" if result["meta_info"].get("synthetic") else ""
    hospitals = "hospitals on a network" if result["meta_info"].get("network") else "simulated hospitals"
    source = f"knowledge of several {hospitals}" if exported.trainers == "sites" else "knowledge of small encoders"
    trained = (
        "It was trained for this question."
        if exported.seen
        else "**It wasn't trained for this question**: the answer may be that of the nearest trained one."
    )
    answers = " / ".join(exported.answers) if exported.answers else "free text"
    question = f"“{exported.question}” " if exported.question else "The question is given with each input. "
    return (
        f"# {exported.name}\n\n{synthetic}{kind} for one task, `{exported.task}`, on {', '.join(exported.modalities)}: "
        f"{source}, injected into {exported.base} by FEDKIM (Wang et al., EMNLP 2024, arXiv "
        f"2408.10276; method `{run['method']}`).\n\n{question}Answers: {answers}. {trained}"
    )


def _use(exported: Exported) -> str:
    return (
        f"## Use\n\n**{wording.NOT_A_DEVICE}**\n\nMeant for research on federated learning and on what a language model takes up "
        f"from it. It answers `{exported.task}` from inputs prepared as in training, and nothing else: with another task, "
        "another kind of input or another preprocessing its words mean nothing. Scores on small or selected data sets don't "
        "carry over to a clinic."
    )


def _data(result: Mapping[str, Any], exported: Exported) -> str:
    sites = result["meta_info"].get("sites", {})
    if exported.trainers != "sites":
        return f"## Data and privacy\n\n{_sentence(exported.data)}\n\n{_NO_FEDERATION[exported.trainers]}"
    lines = [
        "| site | patients | samples | taught |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {_count(facts, 'patients')} | {_count(facts, 'samples')} | {_taught(facts)} |"
            for name, facts in pseudonyms(sites).items()
        ),
    ]
    table = "\n".join(lines) if sites else "The result holds no counts by site."
    network = result["meta_info"].get("network")
    how, sends = (wording.NETWORKED, "sends") if network else (wording.SIMULATED, "would send")
    return (
        f"## Data and privacy\n\n{_sentence(exported.data)}\n\n{table}\n\n"
        f"{how} Sites are pseudonyms. What a site {sends} are weights, example counts, mean losses and its time. "
        f"{wording.PRIVACY} Weights can tell about patients, and nothing here bounds how much."
    )


def pseudonyms(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The sites as ``site-1``, ``site-2``, …: those that are called so keep their numbers, others are ordered by size."""
    if all(re.fullmatch(r"site-\d+", name) for name in sites):
        return dict(sorted(sites.items(), key=lambda item: int(item[0].removeprefix("site-"))))
    ordered = sorted(sites.values(), key=lambda facts: (-(facts.get("patients") or 0), -(facts.get("samples") or 0)))
    return {f"site-{number}": facts for number, facts in enumerate(ordered, 1)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(facts: Mapping[str, Any], name: str) -> str:
    if name not in facts:
        return "known to the site alone"
    number = facts[name]
    return f"fewer than {SMALLEST_CELL}" if number is None or number < SMALLEST_CELL else f"{number:,}"


def _taught(facts: Mapping[str, Any]) -> str:
    names = [name.removeprefix("encoder.") for name in facts.get("components", []) if name.startswith("encoder.")]
    return ", ".join(names) or "–"


def _scores(result: Mapping[str, Any], exported: Exported) -> str:
    entry = result.get("metrics", {}).get(exported.task)
    if entry is None and exported.task in result["meta_info"].get("suppressed", {}).get("tasks", ()):
        return f"## Scores\n\nNot shown: fewer than {SMALLEST_CELL} patients, or all of them with one answer."
    if entry is None:
        return f"## Scores\n\nThe run didn't score `{exported.task}`: nothing is known about how well this model answers it."
    primary = entry["primary_metric"]
    digits = 2 if "suppressed" in result["meta_info"] else 3  # what was rounded to two places has no third
    lines = [f"| {task_label(entry)}: {primary} | n | patients | [95 % by patient] |", "| --- | --- | --- | --- |"]
    for name in row_order(entry["rows"]):
        score = entry["rows"][name].get("primary")
        if score is None:
            continue
        reason = "" if score.get("low") is not None else f" ({score.get('reason') or 'no interval'})"
        lines.append(
            f"| {_ABOUT_ROWS.get(name, ROWS.get(name, name))} | {score['n']} | {score['patients']} | {interval(score, digits)}{reason} |"
        )
    more = [
        f"{metric} {interval(score, digits)}"
        for metric, score in entry["rows"]["injected"].get("metrics", {}).items()
        if score.get("value") is not None
    ]
    parts = [
        f"On the {entry['split']} split"
        + ("." if entry["split"] == "test" else "; settings may have been chosen on these samples, the test split wasn't used."),
        "\n".join(lines),
        f"All scores of this model (decisions at 0.5): {'; '.join(more)}." if more else "",
        _blindness(entry),
        "" if exported.all_modalities else f"They were made with all of the task's inputs, this export takes {', '.join(exported.modalities)} alone.",
    ]  # fmt: skip
    return "## Scores\n\n" + "\n\n".join(part for part in parts if part)


def _blindness(entry: Mapping[str, Any]) -> str:
    worst = worst_blindness(entry.get("blindness") or {})
    if entry["seen"] or worst is None:
        return ""
    return (
        f"On the same inputs its scores correlate {signed(worst[1])} with those of the trained question `{worst[0]}`: near 1, it "
        "answers the input and not the question."
    )


def _loading(exported: Exported) -> str:
    model = (
        'model = AutoModelForCausalLM.from_pretrained(".")'
        if exported.merged
        else 'base = AutoModelForCausalLM.from_pretrained("FOLDER OF THE BASE MODEL")\nmodel = PeftModel.from_pretrained(base, ".")'
    )
    tokenizer = "." if exported.merged else "FOLDER OF THE BASE MODEL"
    imports = "" if exported.merged else "from peft import PeftModel\n"
    code = (
        f"{imports}from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")\n{model}\n\n'
        "from fedkim.injection import load_encoders\n\n"
        'soft = load_encoders(".")  # inputs: prepared tensors [batch, …] by modality, see encoders/encoders.json\n'
        "logits = model(inputs_embeds=soft.embed(model, tokenizer, inputs)).logits"
    )
    kind = (
        "`config.json`, `model.safetensors` and the tokenizer"
        if exported.merged
        else "`adapter_config.json` and `adapter_model.safetensors`"
    )
    return (
        f"## How to load it\n\n```python\n{code}\n```\n\n{kind[:1]}{kind[1:]} are plain "
        f"{'transformers' if exported.merged else 'PEFT'} and need no fedkim. `encoders/` holds encoders and projector as safetensors with "
        "their description in `encoders/encoders.json`; fedkim's `docs/export.md` reads them without fedkim too. `route.json` says which "
        "experts were folded in."
    )  # fmt: skip


def _training(result: Mapping[str, Any], exported: Exported) -> str:
    run, train = result["run_info"], result["train_info"]
    rounds = train.get("rounds", [])
    lines = [
        f"- base model: {exported.base}" + (f", {exported.base_origin}" if exported.base_origin else ""),
        f"- its licence: {exported.base_licence or 'see its own card'}; the data sets carry their own terms, and both bind whoever passes this model on",
        f"- {len(rounds)} {'round' if len(rounds) == 1 else 'rounds'}, backbone {run['backbone']}, seed {run['seed']}, recipe `{run['recipe']}`, computed in {exported.dtype}",
        f"- digest of the run's final weights: `{train['digest']}`",
    ]  # fmt: skip
    if exported.weights:
        lines.append(
            f"- route α: {' '.join(map(figure, exported.weights))}; entropy {figure(exported.entropy)} (1: even, 0: one expert)"
        )
        nearest = result.get("routes", {}).get("nearest", {}).get(exported.task)
        if nearest and exported.all_modalities:
            lines.append(
                f"- nearest trained route: `{nearest['task']}`, total variation {figure(nearest['total_variation'])}"
            )
        lines += [f"- warning: {warning}" for warning in result.get("routes", {}).get("warnings", [])]
    return "## Training\n\n" + "\n".join(lines)
