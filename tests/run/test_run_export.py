import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import fedkim
from fedkim.cli import main
from fedkim.data.sample import Sample
from fedkim.errors import FedkimError
from fedkim.evaluation.answers import generate, score
from fedkim.injection import LLMS, load_encoders
from fedkim.injection.prompt import embed_rows
from fedkim.injection.soft_tokens import RECORD
from fedkim.modalities import MODALITIES
from fedkim.report.wording import NOT_A_DEVICE, PRIVACY, SYNTHETIC
from fedkim.run import federate, run_recipe
from small_recipe import small
from toy_server import stir

GUIDE = Path(__file__).parents[2] / "docs" / "export.md"
TASK = "lung_opacity"
TOLERANCE = 1e-5
QUICK = ("federation.rounds=1", "evaluation.blind=false", "evaluation.draws=100", "m3oe.dropout=0.1")

ALONE = """
import json, sys


class Absent:  # the editable install has it on the path
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "fedkim":
            raise ModuleNotFoundError(f"no {name} here")


sys.meta_path.insert(0, Absent)
try:
    import fedkim
except ImportError:
    pass
else:
    sys.exit("fedkim can be imported")
import torch
torch.set_num_threads(1)
from safetensors.torch import load_file
EXPORT, BASE, expected = sys.argv[1], sys.argv[2], load_file(sys.argv[3])
image = expected["image"]
{block}
assert "fedkim" not in sys.modules
difference = (logits - expected["logits"]).abs().max().item()
soft_difference = (soft - expected["soft"]).abs().max().item()
apart = (probabilities.double() - expected["probabilities"]).abs().max().item()
print(json.dumps([difference, soft_difference, apart, texts]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run whose experts and router have moved far enough to matter."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    run_recipe(small(*QUICK), out=folder)
    run = fedkim.load(folder)
    stir(run.injector, 0.03)
    return run


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(task=TASK, to=tmp_path_factory.mktemp("exports") / "opacity")


@pytest.fixture(scope="module")
def image():
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def routed(run, image):
    return routed_answers(run, image)


def routed_answers(run, image):
    """The routed model's own soft tokens, prompt, logits, probabilities and texts."""
    injector = run.injector
    injector.network.eval()
    injector.encoders.eval()
    with torch.no_grad():
        (soft,) = injector.align(injector.encode(TASK, {"image": image}))
        prompt = injector.tokens.prompt(injector.tasks[TASK].question)
        embedded = embed_rows(injector.llm, [soft], [prompt, prompt]).embeddings
        with injector.using(TASK):
            logits = injector.network(inputs_embeds=embedded).logits
        with injector.network.disable_adapter():
            base = injector.network(inputs_embeds=embedded).logits
    assert (logits - base).abs().max() > 0.01  # else an export of nothing would pass
    samples = [
        Sample(id=f"{row}", patient=f"{row}", split="test", inputs={"image": one}, labels={})
        for row, one in enumerate(image)
    ]
    return {
        "soft": soft,
        "embedded": embedded,
        "logits": logits,
        "probabilities": torch.from_numpy(score(injector, TASK, samples)),
        "texts": generate(injector, TASK, samples),
    }


def numbers(asked):
    return {key: asked[key] for key in ("soft", "logits", "probabilities")}


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory):
    """A run on a base that samples by itself, and whose tokenizer begins every text with a space."""
    base = tmp_path_factory.mktemp("base") / "odd"
    shutil.copytree(base_folder(), base)
    (base / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "eos_token_id": [1, 40, 50, 60]})
    )
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Prepend", "prepend": " "}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    run_recipe(small(*QUICK, f"llm.name={base}"), out=base.parent / "run")
    run = fedkim.load(base.parent / "run")
    stir(run.injector, 0.03)
    return run


def base_folder() -> str:
    return str(LLMS["tiny"].prepare())


# the same numbers -------------------------------------------------------------------------------------------------


def alone(folder, base, expected, tmp_path):
    """What the guide's block finds in a process without fedkim: differences in logits, soft tokens and probabilities, and texts."""
    guide = GUIDE.read_text(encoding="utf-8").split("## Loading it without fedkim")[1]
    block = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert block is not None
    save_file({name: value.contiguous() for name, value in expected.items()}, tmp_path / "expected.safetensors")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", ALONE.replace("{block}", block.group(1)),
         str(folder), str(base), str(tmp_path / "expected.safetensors")],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_an_export_answers_in_a_process_without_fedkim_as_the_routed_model_does(exported, image, routed, tmp_path):
    expected = {"image": image, **numbers(routed)}
    difference, soft_difference, apart, texts = alone(exported, base_folder(), expected, tmp_path)
    assert soft_difference <= TOLERANCE
    assert difference <= TOLERANCE
    assert apart <= TOLERANCE
    assert texts == routed["texts"]


def test_the_bases_own_way_of_generating_and_of_beginning_a_text_changes_no_answer(odd_run, image, tmp_path):
    base = odd_run.recipe.llm.name
    folder = odd_run.export(task=TASK, to=tmp_path / "export")
    record = json.loads((folder / "encoders" / RECORD).read_text())
    tokenizer = AutoTokenizer.from_pretrained(base)
    space, *yes = tokenizer(" Yes", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode([space]) == " "  # alone an answer has one token more, which isn't scored
    assert record["prompt"]["answers"]["Yes"] == yes
    assert record["prompt"]["answers"] == {answer: odd_run.injector.tokens.answer(answer) for answer in ("No", "Yes")}
    del record["prompt"]["answers"]  # an export made before they were listed
    (folder / "encoders" / RECORD).write_text(json.dumps(record))
    asked = routed_answers(odd_run, image)
    difference, _, apart, texts = alone(folder, base, {"image": image, **numbers(asked)}, tmp_path)
    assert difference <= TOLERANCE
    assert apart <= TOLERANCE
    assert texts == asked["texts"]


def test_the_loader_gives_the_same_soft_tokens_and_prompt(exported, image, routed):
    soft = load_encoders(exported)
    base = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, exported).eval()
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    with torch.no_grad():
        assert torch.equal(soft({"image": image}), routed["soft"])
        embedded = soft.embed(model, tokenizer, {"image": image})
        assert torch.equal(embedded, routed["embedded"])
        torch.testing.assert_close(model(inputs_embeds=embedded).logits, routed["logits"], rtol=0, atol=TOLERANCE)
        assert not torch.equal(soft.embed(model, tokenizer, {"image": image}, "Something else?"), embedded)
    assert not any(parameter.requires_grad for parameter in soft.parameters())


def test_a_merged_export_is_an_ordinary_model_with_its_tokenizer(run, image, routed, tmp_path):
    before = {name: value.clone() for name, value in run.injector.network.state_dict().items()}
    folder = run.export(task=TASK, to=tmp_path / "dense", merge=True)
    assert all(torch.equal(value, before[name]) for name, value in run.injector.network.state_dict().items())
    dense = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        embedded = load_encoders(folder).embed(dense, tokenizer, {"image": image})
        torch.testing.assert_close(dense(inputs_embeds=embedded).logits, routed["logits"], rtol=0, atol=TOLERANCE)
    assert not (folder / "adapter_config.json").exists()
    assert not [path for path in folder.rglob("*.json") if base_folder() in path.read_text(encoding="utf-8")]
    assert json.loads((folder / "route.json").read_text())["merged"] is True


@pytest.mark.parametrize("settings", ["m3oe.experts=1", "m3oe.router=uniform"])
def test_a_run_without_a_router_is_exported_too(settings, image, tmp_path):
    run_recipe(small(*QUICK, settings), out=tmp_path / "run")
    run = fedkim.load(tmp_path / "run")
    stir(run.injector, 0.03)
    folder = run.export(task=TASK, to=tmp_path / "export")
    base = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder).eval()
    run.injector.network.eval()
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad(), run.injector.using(TASK):
        torch.testing.assert_close(
            model(ids).logits, run.injector.network(input_ids=ids).logits, rtol=0, atol=TOLERANCE
        )


# the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_guide_lists_and_nothing_about_this_machine(exported, run):
    tree = re.search(r"```\nexports/covid/\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    listed = {line.split()[0] for line in tree.splitlines()}
    found = {path.name + "/" * path.is_dir() for path in exported.rglob("*")}
    assert found == listed
    config = json.loads((exported / "adapter_config.json").read_text())
    settings = run.recipe.m3oe
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", *2 * [settings.experts * settings.rank])
    assert config["base_model_name_or_path"] == "tiny"
    for path in exported.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(run.folder.parent) not in path.read_text(encoding="utf-8")
            assert base_folder() not in path.read_text(encoding="utf-8")


def test_the_record_of_the_encoders_describes_their_files(exported, run):
    record = json.loads((exported / "encoders" / RECORD).read_text())
    (name, facts), *others = record["modalities"].items()
    assert (name, others) == ("image", [])
    assert facts["input_shape"] == [1, 32, 32]
    assert (facts["encoder"], facts["width"], facts["tokens"]) == ("cnn", run.recipe.extraction.width, 8)
    stored = load_file(exported / "encoders" / facts["file"])
    assert stored["projector.projection.weight"].shape == (record["hidden_size"], facts["width"])
    assert torch.equal(stored["projector.tags"], run.injector.alignment["image"].tags)
    assert record["prompt"]["question"] == run.injector.tasks[TASK].question
    assert record["prompt"]["answers"] == {answer: run.injector.tokens.answer(answer) for answer in ("No", "Yes")}


def test_the_route_is_told_with_threshold_and_digests(exported, run):
    record = json.loads((exported / "route.json").read_text())
    assert record["weights"] == pytest.approx(run.injector.route(TASK).weights)
    assert record["router"] == run.injector.network.base_model.router_digest()
    assert record["run_digest"] == run.result["train_info"]["digest"]
    assert (record["task"], record["modalities"], record["answers"]) == (TASK, ["image"], ["No", "Yes"])
    assert record["threshold"] == run.threshold(run.injector.tasks[TASK])


def test_a_question_in_words_is_exported_with_the_modality_that_has_an_encoder(run, tmp_path):
    folder = run.export(task="ecg_qa", to=tmp_path / "qa")
    soft = load_encoders(folder / "encoders")
    assert list(soft.encoders) == ["signal"]
    assert json.loads((folder / "route.json").read_text())["modalities"] == list(
        run.injector.tasks["ecg_qa"].modalities
    )
    with pytest.raises(FedkimError, match=r"inputs, found image, expected signal"):
        soft({"image": torch.zeros(1, 1, 32, 32)})
    with pytest.raises(FedkimError, match=r"input 'signal', found shape \[1, 3, 9\]"):
        soft({"signal": torch.zeros(1, 3, 9)})


def test_a_narrower_set_of_modalities_has_the_route_of_that_set(run, tmp_path):
    folder = run.export(task="ecg_qa", modalities=("signal",), to=tmp_path / "narrow")
    record = json.loads((folder / "route.json").read_text())
    assert record["weights"] == pytest.approx(run.injector.route("ecg_qa", ("signal",)).weights)
    assert record["weights"] != pytest.approx(run.injector.route("ecg_qa").weights, abs=1e-5)
    assert "this export takes signal alone" in (folder / "README.md").read_text()


# the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_what_must_be_said(exported, run):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlibrary_name: peft\nbase_model: "tiny"\n')
    assert all(sentence in card for sentence in (PRIVACY, NOT_A_DEVICE, SYNTHETIC))
    for site, facts in run.result["meta_info"]["sites"].items():
        assert f"| {site} | {facts['patients']} | {facts['samples']} |" in card
    primary = run.result["metrics"][TASK]["rows"]["injected"]["primary"]
    assert f"| this model | {primary['n']} | {primary['patients']} | {primary['value']:.3f}" in card
    assert "the hospitals' small model" in card
    assert "development split" in card
    assert run.result["train_info"]["digest"] in card


def test_the_card_of_a_hospitals_own_run_tells_nothing_of_few_patients(run, tmp_path, monkeypatch):
    result = copy.deepcopy(run.result)
    result["metrics"][TASK]["rows"]["injected"]["patients"] = 7
    first = next(iter(result["meta_info"]["sites"].values()))
    first["patients"] = 3
    monkeypatch.setattr(run.store, "result", lambda: result)
    public = run.export(task=TASK, to=tmp_path / "public")
    assert "| this model |" in (public / "README.md").read_text()
    monkeypatch.setattr(run, "recipe", replace(run.recipe, data=replace(run.recipe.data, source="hospital")))
    own = (run.export(task=TASK, to=tmp_path / "own") / "README.md").read_text()
    assert "Not shown: fewer than 10 patients" in own
    assert "| this model |" not in own
    assert "fewer than 10 |" in own


# mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "lung_opacityy"}, "unknown task 'lung_opacityy'; did you mean 'lung_opacity'?"),
        ({"modalities": ("imag",)}, "unknown modality 'imag'; did you mean 'image'?"),
        ({"modalities": ("signal",)}, "task 'lung_opacity', found modality 'signal', expected some of: image"),
        ({"modalities": ()}, "task 'lung_opacity', found no modality"),
        ({"task": "mortality"}, "modality 'vitals', found no site of this run taught it"),
    ],
)
def test_what_cant_be_exported_is_refused_in_one_line_and_nothing_is_written(run, asked, message, tmp_path):
    with pytest.raises(FedkimError) as caught:
        run.export(**{"task": TASK, "to": tmp_path / "export", **asked})
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_kept_and_an_earlier_export_replaced_only_by_force(run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("dear diary")
    for force in (False, True):
        with pytest.raises(FedkimError, match="files that are no export"):
            run.export(task=TASK, to=mine, force=force)
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    with pytest.raises(FedkimError, match="found a file"):
        run.export(task=TASK, to=mine / "notes.txt")
    (mine / "route.json").write_text('{"routes": ["/"]}')  # a file of that name makes no export
    with pytest.raises(FedkimError, match="files that are no export"):
        run.export(task=TASK, to=mine, force=True)
    assert (mine / "notes.txt").read_text() == "dear diary"
    (tmp_path / "empty").mkdir()
    folder = run.export(task=TASK, to=tmp_path / "empty")
    with pytest.raises(FedkimError, match=r"an earlier export; choose another, or replace it with --force"):
        run.export(task=TASK, to=folder)
    (folder / "notes.txt").write_text("dear diary")
    with pytest.raises(FedkimError, match=r"no export, such as notes\.txt"):
        run.export(task="ecg_abnormal", to=folder, force=True)
    (folder / "notes.txt").unlink()
    run.export(task="ecg_abnormal", to=folder, force=True)
    assert json.loads((folder / "route.json").read_text())["task"] == "ecg_abnormal"
    assert not (folder / "encoders" / "image.safetensors").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_an_export_takes_no_place_where_the_run_or_a_shell_is(run, exported, tmp_path, monkeypatch):
    for place in (run.folder, run.folder / "sub"):
        with pytest.raises(FedkimError, match="found a place in the run's own folder"):
            run.export(task=TASK, to=place)
    assert not (run.folder / "sub").exists()
    shell = tmp_path / "shell"
    shell.mkdir()
    for name in (".", str(shell)):
        monkeypatch.chdir(shell)
        with pytest.raises(FedkimError, match="found the folder that this command runs in, expected a folder of"):
            run.export(task=TASK, to=name)
    monkeypatch.chdir(exported / "encoders")
    with pytest.raises(FedkimError, match="the folder that this command runs in"):
        run.export(task=TASK, to=exported, force=True)
    assert list(shell.iterdir()) == []
    monkeypatch.chdir(shell)
    assert run.export(task=TASK, to="beside").is_dir()


@pytest.mark.parametrize(
    "lacking",
    [
        lambda result: result["metrics"].update({TASK: {"rows": {}}}),
        lambda result: result["metrics"][TASK]["rows"].update(injected=3),
        lambda result: result["run_info"].pop("seed"),
    ],
)
def test_a_result_that_lacks_a_part_is_told_in_one_line(run, tmp_path, monkeypatch, lacking):
    result = copy.deepcopy(run.result)
    lacking(result)
    monkeypatch.setattr(run.store, "result", lambda: result)
    with pytest.raises(FedkimError, match=r"file .*result\.json, found a part missing or something else"):
        run.export(task=TASK, to=tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_half_way_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedkim.run.export.write_encoders", full)
    with pytest.raises(FedkimError, match="No space left"):
        run.export(task=TASK, to=tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_disk_that_fills_up_is_told_by_either_writer(run, tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("fedkim.run.export._write_model", full)
    with pytest.raises(FedkimError, match="No space left"):
        run.export(task=TASK, to=tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_an_earlier_export_is_replaced_keeps_it(run, tmp_path, monkeypatch):
    folder = run.export(task=TASK, to=tmp_path / "export")
    before = sorted(path.name for path in folder.rglob("*"))
    replace_ = os.replace

    def interrupted(source, target):
        if Path(target) == folder.resolve() and ".tmp" in Path(source).name and "replaced" not in Path(source).name:
            raise KeyboardInterrupt
        replace_(source, target)

    monkeypatch.setattr("fedkim.run.export.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.export(task=TASK, to=folder, force=True)
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_weights_of_another_encoder_are_told_in_one_line(run, tmp_path):
    folder = run.export(task=TASK, to=tmp_path / "export") / "encoders"
    record = json.loads((folder / "encoders.json").read_text())
    record["modalities"]["image"]["width"] *= 2
    (folder / "encoders.json").write_text(json.dumps(record))
    with pytest.raises(FedkimError, match="tensors of another architecture, expected those of this package's ImageCNN"):
        load_encoders(folder)


def test_merging_into_a_quantised_model_is_refused(run, tmp_path):
    layer = list(dict(run.injector.network.base_model.layers()).values())[-1].base_layer
    plain = layer.weight
    layer.weight = torch.nn.Parameter(torch.zeros(plain.shape, dtype=torch.int8), requires_grad=False)
    try:
        with pytest.raises(FedkimError, match="is quantised"):
            run.export(task=TASK, to=tmp_path / "dense", merge=True)
    finally:
        layer.weight = plain
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_refused(tmp_path):
    rounds = federate(small(), out=tmp_path / "run")
    next(rounds)
    rounds.close()
    with pytest.raises(FedkimError, match=r"found round 1 of 4 and no result, expected a finished run"):
        fedkim.load(tmp_path / "run").export(task=TASK, to=tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_result_of_other_weights_is_not_put_on_the_card(run, tmp_path):
    """As if the last round had been damaged and made anew, and the process had died before it was scored."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    result = json.loads((folder / "result.json").read_text())
    result["train_info"]["digest"] = "0" * 64
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(FedkimError, match="found a result of other weights than those of its last round"):
        fedkim.load(folder).export(task=TASK, to=tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_the_shell_exports_and_says_where_or_why_not(run, tmp_path, capsys):
    assert main(["export", str(run.folder), "--task", TASK, "--modalities", "image", "--to", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "x")
    assert main(["export", str(run.folder), "--task", TASK, "--to", str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("fedkim: error: target ")
    assert (
        main(["export", str(run.folder), "--task", TASK, "--modalities", "image,imag", "--to", str(tmp_path / "y")])
        == 2
    )
    assert "did you mean 'image'?" in capsys.readouterr().err
    run_recipe(small(*QUICK, "m3oe.experts=0"), out=tmp_path / "plug")
    assert main(["export", str(tmp_path / "plug"), "--task", TASK, "--to", str(tmp_path / "z")]) == 2
    assert "found no adapter (m3oe.experts = 0, method fedplug" in capsys.readouterr().err
    assert not (tmp_path / "z").exists()


# loading mistakes -------------------------------------------------------------------------------------------------


def test_an_export_that_isnt_what_it_says_is_refused(exported, tmp_path, monkeypatch):
    with pytest.raises(FedkimError, match=f"no {RECORD}"):
        load_encoders(tmp_path)
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    weights = folder / "encoders" / "image.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "projector.scale": tensors["projector.scale"] + 1}, weights)
    with pytest.raises(FedkimError, match="found other tensors than described"):
        load_encoders(folder)
    path = folder / "encoders" / RECORD
    record = json.loads(path.read_text())
    record["modalities"]["image"]["preprocessing"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(FedkimError, match="preprocessing of image, found version 2, expected version 1"):
        load_encoders(folder)
    path.write_text(json.dumps({**record, "format": "fedkim-encoders-9"}))
    with pytest.raises(FedkimError, match="found format 'fedkim-encoders-9'"):
        load_encoders(folder)
    path.write_text("{")
    with pytest.raises(FedkimError, match="found no JSON"):
        load_encoders(folder)
    others = {name: modality for name, modality in MODALITIES.items() if name != "image"}
    monkeypatch.setattr("fedkim.injection.soft_tokens.MODALITIES", others)
    with pytest.raises(FedkimError, match="unknown modality 'image'"):
        load_encoders(exported)
