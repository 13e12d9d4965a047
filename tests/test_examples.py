"""Every example plug-in is imported as a recipe names it, and then trained with."""

import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fedkim
from fedkim.aggregation import ALGORITHMS, weighted_mean
from fedkim.data.public_sets import PUBLIC_SETS
from fedkim.data.registry import SOURCES
from fedkim.errors import FedkimError
from fedkim.experiments.claims import decide
from fedkim.experiments.comparison import markdown
from fedkim.experiments.keeping import cell_record
from fedkim.experiments.matrix_file import load_matrix
from fedkim.experiments.methods import METHODS
from fedkim.experiments.scores import read_scores
from fedkim.injection import LLMS
from fedkim.modalities import MODALITIES
from fedkim.recipe import load
from fedkim.run import run_recipe
from fedkim.run.world import build_world
from fedkim.state import State, Update
from fedkim.tasks import TASKS

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("add_*.py"))
SMALL = (
    "data.image_patients=60",
    "data.signal_patients=60",
    "data.icu_patients=60",
    "federation.rounds=2",
    "injection.steps_per_round=2",
    "tasks.unseen=[]",
)


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """The examples' folder on the path; afterwards every registry as it was."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    registries = (TASKS, MODALITIES, SOURCES, ALGORITHMS, LLMS, PUBLIC_SETS, METHODS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before):
        registry.clear()
        registry.update(content)
    for name in NAMES:
        sys.modules.pop(name, None)


def small(plugin, *overrides):
    return load(ROOT / "recipes" / "smoke.toml", *SMALL, f'run.plugins=["{plugin}"]', *overrides)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_no_more_than_twenty_lines(name):
    lines = (ROOT / "examples" / f"{name}.py").read_text().split('"""')[::2]  # without docstrings
    assert sum(bool(line.strip()) for part in lines for line in part.splitlines()) <= 20


def test_a_task_of_ones_own_is_dealt_trained_and_injected():
    recipe = small("add_task", "data.source=phantom-covid-free", 'tasks.seen=["covid", "covid_free"]')
    *_, last = fedkim.federate(recipe)
    assert {"loss.covid", "loss.covid_free"} <= set(last.contributions[0].metrics)
    assert last.contributions[0].num_examples["decoder.covid_free"] > 0
    assert set(last.injection["tasks"]) == {"covid", "covid_free"}
    answers = {(s.labels["covid"], s.labels["covid_free"]) for s in build_world(recipe).data if "covid" in s.labels}
    assert answers == {("Yes", "No"), ("No", "Yes")}


def test_a_modality_of_ones_own_is_encoded_averaged_and_injected():
    recipe = small("add_modality", "data.source=phantom-spectrum", 'tasks.seen=["ecg_abnormal"]')
    first, last = fedkim.federate(recipe)
    weight = "encoder.spectrum.0.weight"
    assert all("encoder.spectrum" in contribution.components for contribution in last.contributions)
    assert not torch.equal(first.aggregated[weight], last.aggregated[weight])
    assert not torch.equal(last.aggregated[weight], last.state[weight])  # tuned by the injection


def test_a_language_model_of_ones_own_is_injected():
    *_, last = fedkim.federate(small("add_llm", "llm.name=tiny-qwen2", 'tasks.seen=["covid"]'))
    assert all(np.isfinite(last.injection["loss"]))
    assert LLMS["tiny-qwen2"].config["hidden_size"] == 48


def test_an_algorithm_of_ones_own_carries_its_memory_through_the_rounds():
    recipe = small("add_algorithm", "federation.algorithm=fedavgm", 'tasks.seen=["covid"]', "federation.rounds=1")
    (only,) = fedkim.federate(recipe)
    assert set(only.memory) == set(only.aggregated)
    assert any(bool(move.abs().max() > 0) for move in only.memory.values())


def test_the_momentum_rule_starts_as_fedavg_and_then_overshoots():
    fedavgm = importlib.import_module("add_algorithm").fedavgm()
    previous = State({"encoder.image.w": torch.zeros(2)})
    update = Update(
        site="a",
        round=1,
        base_digest="",
        state=State({"encoder.image.w": torch.ones(2)}),
        num_examples={"encoder.image": 3},
    )
    state, memory = fedavgm.aggregate(previous, [update], State())
    assert torch.equal(state["encoder.image.w"], weighted_mean(previous, [update])["encoder.image.w"])
    state, _ = fedavgm.aggregate(state, [update], memory)
    torch.testing.assert_close(state["encoder.image.w"], torch.full((2,), 1.9))


def test_a_source_of_ones_own_is_read_split_by_patient_and_trained(tmp_path):
    random = np.random.default_rng(0)
    rows = [("file", "patient", "covid", "atelectasis")]
    for number in range(80):
        Image.fromarray(random.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", f"p{number // 2}", ("No", "Yes")[number % 2], ("Yes", "No")[number % 2]))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    recipe = small(
        "add_source", "data.source=folder", f"data.root={tmp_path}", 'tasks.seen=["covid"]', 'tasks.unseen=["atelectasis"]'
    )  # fmt: skip
    world = build_world(recipe)
    splits = {}
    for sample in world.data:
        assert splits.setdefault(sample.patient, sample.split) == sample.split
        assert ("atelectasis" in sample.labels) == (sample.split in ("development", "test"))
    assert set(splits.values()) == {"private", "public", "development", "test"}
    *_, last = fedkim.federate(recipe)
    assert last.state["encoder.image.stages.0.weight"].isfinite().all()


def write_fractures(root, number=80, first=0):
    """``number`` pictures of half as many patients, a bright corner where the answer is yes."""
    root.mkdir()
    rows = [("file", "patient", "fracture")]
    for index in range(first, first + number):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40), dtype=np.uint8)
        pixels[:10, :10] = 255 * (index % 4 > 1)
        Image.fromarray(pixels).save(root / f"{index}.png")
        rows.append((f"{index}.png", f"p{index // 2}", ("No", "Yes")[index % 4 > 1]))
    with (root / "answers.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_a_public_set_of_ones_own_is_split_trained_and_never_scored_on_patients_it_taught(tmp_path):
    write_fractures(tmp_path / "mine")
    roots = f'data.roots={{ mine = "{tmp_path / "mine"}" }}'
    recipe = small("add_data_set", "data.source=public", roots, 'tasks.seen=["fracture"]', "federation.sites=2")
    world = build_world(recipe)
    assert {sample.split for sample in world.data} == {"private", "public", "development", "test"}
    for _ in fedkim.federate(recipe, out=tmp_path / "run"):
        pass
    run = fedkim.load(tmp_path / "run")
    assert run.committed.tensors["state.encoder.image.stages.0.weight"].isfinite().all()
    answer = run.answer(task="fracture", image=tmp_path / "mine" / "3.png")
    assert answer.text in ("No", "Yes")
    write_fractures(tmp_path / "again", number=60)  # the same patients in a smaller copy are dealt otherwise
    with pytest.raises(FedkimError, match=r"of the \d+ development patients among those it has learned from") as caught:
        run.evaluate(tmp_path / "again")
    assert "p1" not in str(caught.value)
    kept = (tmp_path / "run" / "trained.json").read_text()
    assert "mine/" not in kept
    write_fractures(tmp_path / "others", number=60, first=1000)
    result = run.evaluate(tmp_path / "others")
    assert result["metrics"]["fracture"]["seen"]


def test_other_code_of_a_plug_in_is_no_finished_run_and_no_round_to_go_on_from(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = tmp_path / "changing_plugin.py"
    plugin.write_text("TASKS = 1\n")
    recipe = small("changing_plugin", "data.image_patients=40", "evaluation.blind=false", 'tasks.seen=["covid"]')
    result = run_recipe(recipe, out=tmp_path / "run")
    assert run_recipe(recipe, out=tmp_path / "run") == result
    plugin.write_text("TASKS = 20\n")
    assert run_recipe(recipe, out=tmp_path / "run") == result, "this process runs the code that it has imported"
    sys.modules.pop("changing_plugin")  # as in another process
    with pytest.raises(
        FedkimError, match=r"result of .*run, found made with other code of the plug-in 'changing_plugin'"
    ):
        run_recipe(recipe, out=tmp_path / "run")
    with pytest.raises(FedkimError, match=r"rounds of .*made with other code of the plug-in"):
        fedkim.load(tmp_path / "run").injector  # noqa: B018
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(FedkimError, match="the rounds already there, found made with other code of the plug-in"):
        run_recipe(recipe, out=tmp_path / "run")
    again = run_recipe(recipe, out=tmp_path / "run", force=True)
    assert again["train_info"]["digest"] == result["train_info"]["digest"]


MATRIX = """
[base.run]
plugins = ["add_method"]
[[cells]]
methods = ["fedkim", "fedkim-many"]
seeds = [1]
[choice]
seeds = [0]
methods = ["fedkim", "fedkim-many"]
configurations = [["injection.learning_rate=1e-3"], ["injection.learning_rate=2e-3"]]
"""


def test_a_method_of_ones_own_stands_in_a_matrix_with_settings_chosen_for_it_alone(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MATRIX)
    matrix = load_matrix(path)
    ours = {cell.method: matrix.recipe(cell, {"fedkim": 0, "fedkim-many": 1}) for cell in matrix.cells}
    assert [(one.m3oe.experts, one.m3oe.rank, one.injection.learning_rate) for one in ours.values()] == [
        (12, 8, 1e-3),
        (24, 4, 2e-3),
    ]


def test_a_comparison_knows_the_methods_of_the_cells_plug_ins(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MATRIX)
    matrix = load_matrix(path)
    for cell in matrix.cells:
        entry = {
            "seen": True,
            "kind": "classification",
            "rows": {"injected": {"n": 9, "primary": {"value": 0.7}, "metrics": {}}},
        }
        about = {"cell": cell_record(cell), "config": matrix.recipe(cell).to_toml(), "split": "test", "llm": "tiny"}
        record = {
            "run_info": about, "metrics": {"covid": entry}, "meta_info": {"synthetic": True},
            "train_info": {"rounds": []}, "routes": None,
        }  # fmt: skip
        (tmp_path / f"{cell.name}.json").write_text(json.dumps(record))
    METHODS.pop("fedkim-many")
    sys.modules.pop("add_method")  # as in the process of `fedkim compare`
    scores = read_scores(tmp_path)
    assert "FEDKIM, 24 experts of rank 4" in markdown(scores, decide(scores))
