import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import Predictions
from fedkim.experiments.predictions_table import LARGEST, quantised, read_table, write_table

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")


def closed(task, scores, truth=None, answers=("No", "Yes")):
    n = len(scores)
    table = np.stack([1 - np.asarray(scores), scores], axis=1)
    patients = tuple(f"patient-{i}" for i in range(n))
    truth = truth or tuple("Yes" if i % 3 == 0 else "No" for i in range(n))
    return Predictions(
        task=task, split="test", samples=patients, patients=patients, truth=truth, answers=answers, probabilities=table
    )


def written(task, texts):
    n = len(texts)
    return Predictions(
        task=task,
        split="test",
        samples=tuple(f"patient-{i // 2}/q{i % 2}" for i in range(n)),
        patients=tuple(f"patient-{i // 2}" for i in range(n)),
        truth=("left",) * n,
        generated=tuple(texts),
        templates=("side",) * n,
    )


def rows(n=40, seed=0):
    random = np.random.default_rng(seed)
    return {
        "covid": {name: closed("covid", random.random(n)) for name in ("injected", "base", "small_before")},
        "sepsis": {name: closed("sepsis", random.random(n)) for name in ("injected", "proxy")},
        "slake": {
            "injected": written("slake", random.choice(["left", "right", ""], n).tolist()),
            "base": written("slake", [""] * n),
        },
    }


def test_the_file_gives_back_what_scores_were_computed_from(tmp_path):
    given = rows()
    write_table(tmp_path / "a.parquet", given)
    back, expected = read_table(tmp_path / "a.parquet"), quantised(given)
    assert {task: list(named) for task, named in back.items()} == {
        task: list(named) for task, named in expected.items()
    }
    for task, named in expected.items():
        for name, row in named.items():
            assert back[task][name].truth == row.truth == given[task][name].truth
            assert back[task][name].generated == row.generated == given[task][name].generated
            assert back[task][name].samples == row.samples
            if row.probabilities is not None:
                assert np.array_equal(back[task][name].probabilities, row.probabilities)


def test_a_16_bit_step_of_log_odds_moves_no_probability_by_more_than_a_ten_thousandth():
    given = rows()
    for task in ("covid", "sepsis"):
        for name, row in quantised(given)[task].items():
            assert np.abs(row.scores - given[task][name].scores).max() < 1e-4
    extreme = quantised({"covid": {"injected": closed("covid", [0.0, 1.0, 0.5, 1e-9])}})["covid"]["injected"]
    assert extreme.scores == pytest.approx([0, 1, 0.5, 0], abs=1e-4)


def test_no_patient_is_named_and_the_file_is_small(tmp_path):
    random = np.random.default_rng(1)
    many = {
        f"task-{t}": {
            name: closed(f"task-{t}", random.random(100))
            for name in ("injected", "base", "small_before", "small_after")
        }
        for t in range(12)
    }
    size = write_table(tmp_path / "a.parquet", many)
    assert size < LARGEST
    assert b"patient-" not in (tmp_path / "a.parquet").read_bytes()
    assert not any(
        "patient-" in sample for row in read_table(tmp_path / "a.parquet")["task-0"].values() for sample in row.samples
    )


def test_too_much_and_other_answers_are_refused(tmp_path):
    random = np.random.default_rng(2)
    with pytest.raises(FedkimError, match="fewer test patients"):
        write_table(tmp_path / "a.parquet", {"covid": {"injected": closed("covid", random.random(40_000))}})
    assert not (tmp_path / "a.parquet").exists()
    other = closed("covid", [0.5], truth=("b",), answers=("a", "b"))
    with pytest.raises(FedkimError, match="No and Yes"):
        quantised({"covid": {"injected": other}})
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(FedkimError, match="unreadable"):
        read_table(tmp_path / "b.parquet")
