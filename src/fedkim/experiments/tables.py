"""Tables of a matrix: text alone, one form for Markdown and HTML. Numbers are points, means over seeds ± the t-interval's half."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fedkim.evaluation.seeds import MEASURABLE, MISSING, paired_seeds
from fedkim.experiments.claims import Decided
from fedkim.experiments.methods import title_of
from fedkim.experiments.scores import SUMMARIES, CellScores, Scores, mean_of
from fedkim.report.words import interval

DASH = "–"
COVID = "covid"
ABLATION = ("fedkim", "fedkim-pub", "without-task", "without-modality", "uniform")
LINKED = ("fedkim", "fedplug-lora-matched", "fedkim-plus")
"""Methods of the ρ-curve."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A title, what to know when reading it, and cells of text."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [f"### {self.title}", "", self.note, ""] if self.note else [f"### {self.title}", ""]
        lines += ["| " + " | ".join(self.header) + " |", "|" + " --- |" * len(self.header)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def shown(values: Mapping[int, float]) -> str:
    """``57.1 ± 2.3``; one seed has no interval, none a dash."""
    paired = paired_seeds(list(values.values()))
    if paired is None:
        return DASH if not values else f"{fmean(values.values()):.1f}"
    return f"{paired.mean:.1f} ± {paired.high - paired.mean:.1f}"


def all_tables(scores: Scores, decided: Sequence[Decided]) -> list[Table]:
    """Every table that has a row, in reading order."""
    tables = [
        claims_table(decided),
        zero_shot_classification(scores),
        zero_shot_generation(scores),
        seen_tasks(scores),
        papers_metrics(scores),
        ablation(scores),
        rho_table(scores),
        varied(scores, "Heterogeneous sites", ("dirichlet-0.1", "missing-0.6", "site-shift")),
        varied(scores, "More questions on the same inputs", ("questions",)),
        routing(scores),
        communication(scores),
    ]
    return [table for table in tables if table.rows]


def claims_table(decided: Sequence[Decided]) -> Table:
    """A row per claim: verdict, difference with interval, Holm's p, the smallest difference that would be found."""
    rows = []
    for one in decided:
        paired, verdict = one.verdict.paired, one.verdict
        figures = [DASH, DASH, DASH, str(len(one.by_seed))]
        if paired is not None:
            figures = [
                f"{paired.mean:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]",
                f"{verdict.adjusted_p:.3f}",
                f"{paired.detectable:.1f}",
                str(paired.num_seeds),
            ]
        source = "ours" if one.claim.ours else "paper"
        rows.append([f"{one.claim.number}. {one.claim.sentence}", source, verdict.word, *figures, one.claim.measure])
    return Table(
        title="Claims",
        note=(
            "A claim holds where the paired difference over seeds lies above 0 with Holm's p below 0.05. One that doesn't, and "
            f"whose smallest detectable difference (80 % power) exceeds {MEASURABLE:.0f} points, is not measurable here. "
            f"“{MISSING}”: fewer than two seeds have been run."
        ),
        header=[
            "claim",
            "of",
            "verdict",
            "difference, points [95 %]",
            "Holm's p",
            "detectable",
            "seeds",
            "difference of",
        ],
        rows=rows,
    )


def zero_shot_classification(scores: Scores) -> Table:
    """Unseen classification by method, with question-blindness beside every score."""
    tasks = scores.tasks("unseen")

    def row(method: str, backbone: str) -> list[str]:
        cells = [cell for cells in scores.group(method, backbone=backbone).values() for cell in cells]
        return [
            *(f"{shown(scores.task_by_seed(method, task, backbone=backbone))} {_blind(cells, task)}" for task in tasks),
            shown(scores.by_seed(method, "unseen", backbone=backbone)),
        ]

    rows = _by_method(scores, row)
    references = [("base", "language model alone"), ("proxy", "best seen head (proxy)")]
    rows += _references(scores, "unseen", tasks, references)
    return Table(
        title="Zero-shot on unseen tasks: classification",
        note="AUROC. In brackets the largest correlation with a seen question on the same inputs: near 1, the answer is that question's.",
        header=["method", "backbone", "seeds", *tasks, "mean"],
        rows=rows,
    )


def zero_shot_generation(scores: Scores) -> Table:
    """Unseen free text by method."""
    tasks = scores.tasks("generation")

    def row(method: str, backbone: str) -> list[str]:
        return [
            *(shown(scores.task_by_seed(method, task, backbone=backbone)) for task in tasks),
            shown(scores.by_seed(method, "generation", backbone=backbone)),
            *(
                shown(_mean_metric(scores, method, backbone, tasks, metric))
                for metric in ("token_f1", "bleu_1", "rouge_1", "meteor_no_synonyms", "empty_rate")
            ),
        ]

    rows = _by_method(scores, row)
    references = [("base", "language model alone"), ("majority_per_template", "majority of the template")]
    rows += [[*one, *[DASH] * 5] for one in _references(scores, "generation", tasks, references)]
    return Table(
        title="Zero-shot on unseen tasks: generation",
        note="Exact match by task and their mean; the other scores are means over the tasks. An empty answer counts as wrong.",
        header=[
            "method",
            "backbone",
            "seeds",
            *tasks,
            "mean",
            "token F1",
            "BLEU-1",
            "ROUGE-1",
            "METEOR, no synonyms",
            "empty",
        ],
        rows=rows,
    )


def seen_tasks(scores: Scores) -> Table:
    """The same weights on the seen tasks (the injection is the fine-tuning)."""
    tasks = scores.tasks("seen")

    def row(method: str, backbone: str) -> list[str]:
        return [
            *(shown(scores.task_by_seed(method, task, backbone=backbone)) for task in tasks),
            shown(scores.by_seed(method, "seen", backbone=backbone)),
        ]

    rows = _by_method(scores, row)
    references = [
        ("base", "language model alone"),
        ("simple", "simple statistics"),
        ("small_before", "small models, before injection"),
        ("small_after", "small models, after injection"),
    ]
    rows += _references(scores, "seen", tasks, references)
    return Table(
        title="Fine-tuning on seen tasks",
        note="AUROC on test patients of the tasks that were trained on; the injection on the public set is the fine-tuning.",
        header=["method", "backbone", "seeds", *tasks, "mean"],
        rows=rows,
    )


def papers_metrics(scores: Scores) -> Table:
    """Accuracy, precision, recall and F1 at 0.5, means over tasks, as the papers print them."""
    metrics = ("accuracy", "precision", "recall", "f1")

    def row(method: str, backbone: str) -> list[str]:
        return [
            shown(_mean_metric(scores, method, backbone, scores.tasks(which), metric))
            for which in ("unseen", "seen")
            for metric in metrics
        ]

    rows = _by_method(scores, row)
    majority = [
        shown(_mean_metric(scores, "fedkim", "fedavg", scores.tasks(which), "accuracy", row="majority"))
        for which in ("unseen", "seen")
    ]
    if rows and majority[0] != DASH:
        seeds = str(len(scores.group("fedkim")))
        rows.append(["majority", DASH, seeds, majority[0], *[DASH] * 3, majority[1], *[DASH] * 3])
    return Table(
        title="The papers' metrics",
        note="Means over tasks at threshold 0.5, where all of them exist.",
        header=["method", "backbone", "seeds", *(f"{w}: {m}" for w in ("unseen", "seen") for m in metrics)],
        rows=rows,
    )


def ablation(scores: Scores) -> Table:
    """FEDKIM less one part: the COVID-like task and the means."""
    full = {which: scores.by_seed("fedkim", which) for which in SUMMARIES}
    rows = []
    for method in ABLATION:
        seeds = scores.group(method)
        if not seeds:
            continue
        cells = [title_of(method), str(len(seeds)), shown(scores.task_by_seed(method, COVID))]
        for which in SUMMARIES:
            own = scores.by_seed(method, which)
            cells.append(shown(own))
            lost = {seed: own[seed] - full[which][seed] for seed in own if seed in full[which]}
            cells.append(DASH if method == "fedkim" else shown(lost))
        rows.append(cells)
    header = ["method", "seeds", "COVID-like"]
    for name in SUMMARIES.values():
        header += [name, "− FEDKIM"]
    return Table(
        title="Ablation", note="Differences are paired by seed.", header=header, rows=rows if len(rows) > 1 else []
    )


def rho_of(scores: Scores, variation: str) -> float | None:
    """ρ of a variation's cells, from their settings."""
    for cell in scores.cells:
        if cell.variation == variation:
            data = tomllib.loads(cell.record["run_info"]["config"])["data"]
            return float(data["rho"]) if data["source"] == "phantom" else None
    return None


def rho_points(scores: Scores, method: str, row: str = "injected") -> dict[float, dict[int, float]]:
    """By ρ, a method's mean unseen AUROC by seed."""
    points: dict[float, dict[int, float]] = {}
    for variation in dict.fromkeys(cell.variation for cell in scores.cells):
        rho = rho_of(scores, variation)
        if rho is None or not (variation == "" or variation.startswith("rho-")):
            continue
        values = scores.by_seed(method, "unseen", row=row, variation=variation)
        if values:
            points[rho] = values
    return dict(sorted(points.items()))


def rho_table(scores: Scores) -> Table:
    """Unseen AUROC by ρ; ρ = 0 is the negative control."""
    curves = [(title_of(method), rho_points(scores, method)) for method in LINKED]
    curves.append(("best seen head (proxy)", rho_points(scores, "fedkim", row="proxy")))
    rhos = sorted({rho for _, points in curves for rho in points})
    rows = [[name, *(shown(points.get(rho, {})) for rho in rhos)] for name, points in curves if points]
    return Table(
        title="Transfer: unseen tasks by ρ",
        note="Mean AUROC of unseen classification. At ρ = 0 nothing can transfer: what lies above 50 there is an error of the experiment.",
        header=["method", *(f"ρ = {rho:g}" for rho in rhos)],
        rows=rows if len(rhos) > 1 else [],
    )


def varied(scores: Scores, title: str, variations: Sequence[str]) -> Table:
    """The main setting beside variations of it, on the variations' seeds."""
    rows = []
    for variation in variations:
        for method, own, backbone in scores.groups():
            if own != variation:
                continue
            there = scores.group(method, variation=variation, backbone=backbone)
            cells = [title_of(method), variation, str(len(there))]
            for which in SUMMARIES:
                here = scores.by_seed(method, which, variation=variation, backbone=backbone)
                main = scores.by_seed(method, which, backbone=backbone)
                change = {seed: here[seed] - main[seed] for seed in here if seed in main}
                cells += [shown(here), shown(change)]
            flat = [cell for group in there.values() for cell in group]
            main_flat = [cell for group in scores.group(method, backbone=backbone).values() for cell in group]
            rows.append([*cells, _mean_blindness(flat), _mean_blindness(main_flat)])
    header = ["method", "variation", "seeds"]
    for name in SUMMARIES.values():
        header += [name, "− main"]
    return Table(
        title=title,
        note="Differences to the main setting are paired by seed. Blindness: mean over unseen tasks of the largest correlation with a seen question.",
        header=[*header, "blindness", "blindness, main"],
        rows=rows,
    )


def routing(scores: Scores) -> Table:
    """What the router did: entropy of α, total variation between tasks."""
    rows = []
    for method, variation, backbone in scores.groups():
        groups = scores.group(method, variation=variation, backbone=backbone)
        cells = [cell for group in groups.values() for cell in group if cell.record.get("routes")]
        if not cells:
            continue
        routes = [cell.record["routes"] for cell in cells]
        if routes[0]["experts"] < 2:
            continue
        entropy = [fmean(record["entropy"].values()) for record in routes]
        rows.append(
            [
                title_of(method) + (f", {variation}" if variation else ""),
                backbone,
                str(len(groups)),
                f"{fmean(entropy):.3f}",
                f"{min(min(record['entropy'].values()) for record in routes):.3f}",
                f"{fmean(record['total_variation'] for record in routes):.3f}",
                str(sum(bool(record["collapsed"]) for record in routes)),
                str(sum(bool(record["indistinct"]) for record in routes)),
            ]
        )
    return Table(
        title="Routing",
        note="Entropy of α over log P (1: uniform) and total variation between tasks (0: the same route for all), means over seeds.",
        header=["method", "backbone", "seeds", "entropy", "lowest", "total variation", "collapsed", "indistinct"],
        rows=rows,
    )


def communication(scores: Scores) -> Table:
    """Bytes that sites send against what they buy, with the time of a cell."""
    rows = []
    for method, variation, backbone in scores.groups():
        if variation:
            continue
        groups = scores.group(method, backbone=backbone)
        cells = [cell for group in groups.values() for cell in group]
        if not cells:
            continue
        rows.append(
            [
                title_of(method),
                backbone,
                str(len(groups)),
                f"{fmean(cell.bytes_sent for cell in cells) / 2**20:.1f}",
                shown(scores.by_seed(method, "seen", backbone=backbone)),
                f"{fmean(cell.record['run_info'].get('processor_seconds', 0.0) for cell in cells) / 60:.1f}",
            ]
        )
    return Table(
        title="Bytes against score",
        note="MiB that all sites send in all rounds; processor minutes of a run on one thread.",
        header=["method", "backbone", "seeds", "MiB sent", "seen, AUROC", "minutes"],
        rows=rows,
    )


def forgetting_tables(folder: Path) -> list[Table]:
    """What runs forgot, from ``<folder>/forgetting/*.json``; nothing where none has been measured."""
    rows = []
    for path in sorted((folder / "forgetting").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        cells = [path.stem, str(record["llm"])]
        for part, change in (("pubmedqa", "difference"), ("perplexity", "ratio")):
            cells += [interval(record.get(part, {}).get(key)) for key in ("base", "injected", change)]
        rows.append(cells)
    header = ["run", "language model", "PubMedQA, before", "after", "difference"]
    table = Table(
        title="Does it forget?",
        note="Accuracy on PubMedQA's official test questions and perplexity on the other abstracts, with 95 % intervals by article.",
        header=[*header, "perplexity, before", "after", "ratio"],
        rows=rows,
    )
    return [table] if rows else []


def _by_method(scores: Scores, row: Callable[[str, str], list[str]]) -> list[list[str]]:
    return [
        [title_of(method), backbone, str(len(scores.group(method, backbone=backbone))), *row(method, backbone)]
        for method, variation, backbone in scores.groups()
        if not variation and scores.group(method, backbone=backbone)
    ]


def _references(
    scores: Scores, which: str, tasks: Sequence[str], references: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """Reference rows as FEDKIM's own cells computed them."""
    seeds = len(scores.group("fedkim"))
    rows = []
    for name, title in references:
        values = [shown(scores.task_by_seed("fedkim", task, row=name)) for task in tasks]
        if any(value != DASH for value in values):
            rows.append([f"*{title}*", DASH, str(seeds), *values, shown(scores.by_seed("fedkim", which, row=name))])
    return rows


def _mean_metric(
    scores: Scores, method: str, backbone: str, tasks: Sequence[str], metric: str, row: str = "injected"
) -> dict[int, float]:
    columns = [scores.task_by_seed(method, task, row=row, metric=metric, backbone=backbone) for task in tasks]
    seeds = set.intersection(*(set(column) for column in columns)) if columns else set()
    return {seed: fmean(column[seed] for column in columns) for seed in sorted(seeds)}


def _blind(cells: Sequence[CellScores], task: str) -> str:
    found = [worst[1] for cell in cells if task in cell.record["metrics"] and (worst := cell.blindness(task))]
    return f"({fmean(found):+.2f})" if found else f"({DASH})"


def _mean_blindness(cells: Sequence[CellScores]) -> str:
    found = [abs(worst[1]) for cell in cells for task in cell.tasks("unseen") if (worst := cell.blindness(task))]
    value = mean_of(found)
    return DASH if value is None else f"{value:.2f}"
