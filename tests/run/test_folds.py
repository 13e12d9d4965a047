import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import squares

from fedkim.errors import FedkimError
from fedkim.run import folds as folds_module
from fedkim.run import run_folds, run_recipe
from fedkim.run.folds import pooled
from fedkim.run.predictions_file import read_predictions
from fedkim.store.run_store import RunStore
from small_recipe import small

RECIPE = small(
    "data.source=squares",
    'run.plugins=["squares"]',
    'tasks.seen=["square"]',
    'tasks.unseen=["frame"]',
    "federation.rounds=1",
    "evaluation.blind=false",
    "evaluation.shuffled=false",
)
FOLDS = (0, 3)


def of_fold(fold: int):
    return replace(RECIPE, data=replace(RECIPE.data, fold=fold))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two folds, run one after the other in this process."""
    out = tmp_path_factory.mktemp("folds")
    for fold in FOLDS:
        run_recipe(of_fold(fold), out=out / f"fold-{fold}", reveal_test=True)
    return out


def test_every_patient_is_scored_once_by_the_fold_that_tested_them(parts):
    result = pooled(RECIPE, FOLDS, parts)
    tested = [number for number in range(squares.PATIENTS) if number % 5 in FOLDS]
    for task in ("square", "frame"):
        assert result["metrics"][task]["rows"]["injected"]["n"] == len(tested)
    rows = [read_predictions(parts / f"fold-{fold}" / "predictions.json")["square"]["injected"] for fold in FOLDS]
    assert sorted(name for row in rows for name in row.samples) == sorted(f"squares/{number}" for number in tested)


def test_the_pooled_accuracy_is_that_of_all_answers_together(parts):
    right = total = 0
    for fold in FOLDS:
        row = read_predictions(parts / f"fold-{fold}" / "predictions.json")["square"]["injected"]
        right += sum((p >= 0.5) == (word == "Yes") for p, word in zip(row.scores, row.truth))
        total += len(row)
    metrics = pooled(RECIPE, FOLDS, parts)["metrics"]["square"]["rows"]["injected"]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(right / total, abs=1e-4)


def test_a_pooled_result_says_which_folds_it_is_of(parts):
    result = pooled(RECIPE, FOLDS, parts)
    stored = [RunStore(parts / f"fold-{fold}").result() for fold in FOLDS]
    assert result["run_info"]["folds"] == list(FOLDS)
    assert result["run_info"]["test_revealed"] == 1
    assert result["run_info"]["seconds"] == pytest.approx(sum(part["run_info"]["seconds"] for part in stored))
    assert result["train_info"]["digests"] == [part["train_info"]["digest"] for part in stored]
    assert len(set(result["train_info"]["digests"])) == 2


def test_question_blindness_is_the_mean_of_the_folds(parts):
    stored = [RunStore(parts / f"fold-{fold}").result()["metrics"]["frame"]["blindness"]["square"] for fold in FOLDS]
    mean = pooled(RECIPE, FOLDS, parts)["metrics"]["frame"]["blindness"]["square"]
    assert mean["pearson"] == pytest.approx(sum(part["pearson"] for part in stored) / 2)
    assert mean["n"] == sum(part["n"] for part in stored)


def test_a_row_that_one_fold_lacks_is_left_out(parts, tmp_path):
    for fold in FOLDS:
        target = tmp_path / f"fold-{fold}"
        target.mkdir()
        for name in ("recipe.json", "result.json"):
            (target / name).write_bytes((parts / f"fold-{fold}" / name).read_bytes())
        record = json.loads((parts / f"fold-{fold}" / "predictions.json").read_text())
        if fold == FOLDS[0]:
            del record["square"]["small_after"]
        (target / "predictions.json").write_text(json.dumps(record))
    rows = pooled(RECIPE, FOLDS, tmp_path)["metrics"]["square"]["rows"]
    assert "small_after" not in rows
    assert "small_before" in rows


def test_each_fold_is_a_command_of_its_own():
    command = folds_module._command(3, Path("runs/x"), workers=1, force=True, reveal_test=False)
    text = " ".join(command)
    assert "-m fedkim run runs/x/recipe.toml --out runs/x/fold-3 --set data.fold=3 --set run.workers=1 --force" in text
    assert "--reveal-test" not in text


@pytest.mark.slow
def test_folds_run_as_processes_and_equal_the_same_folds_run_here(parts, tmp_path, monkeypatch):
    path = os.pathsep.join([str(Path(squares.__file__).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    out = tmp_path / "out"
    result = run_folds(RECIPE, FOLDS, out=out, reveal_test=True)
    assert result["metrics"] == pooled(RECIPE, FOLDS, parts)["metrics"]
    assert result["train_info"]["digests"] == pooled(RECIPE, FOLDS, parts)["train_info"]["digests"]
    assert json.loads((out / "result.json").read_text())["run_info"]["folds"] == list(FOLDS)
    assert (out / "report.html").is_file()
    again = run_folds(RECIPE, FOLDS, out=out, reveal_test=True)
    assert again["run_info"]["test_revealed"] == 1  # complete folds are not scored anew


@pytest.mark.slow
def test_a_fold_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the plug-in can't be found there
    with pytest.raises(FedkimError, match="fold 0, found it ended with an error"):
        run_folds(RECIPE, FOLDS[:1], out=tmp_path / "out")
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_source_without_folds_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(FedkimError, match="'phantom', which has no folds"):
        run_folds(small(), (0, 1), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
