"""What stands once a sample is taken, pooled and read back with it, and none of it is forgotten."""

from dataclasses import fields

import numpy as np
import pytest

from fedkim.evaluation.predictions import PER_SAMPLE, Predictions, pool
from fedkim.run.predictions_file import read_predictions, write_predictions

ONCE = {"task", "split", "answers", "within"}


def rows(start, *, closed=True):
    numbers = range(start, start + 3)
    named = {name: tuple(f"{name}-{n}" for n in numbers) for name in PER_SAMPLE}
    named["groups"] = tuple(frozenset({f"group-{n}", "all"}) for n in numbers)
    if closed:
        named |= {"truth": ("No", "Yes", "No"), "generated": None}
    table = np.array([[0.1 * n, 1 - 0.1 * n] for n in numbers])
    return Predictions(
        task="covid",
        split="test",
        answers=("No", "Yes") if closed else None,
        probabilities=table if closed else None,
        within="all",
        **named,
    )


def columns(row):
    return {name: getattr(row, name) for name in PER_SAMPLE}


def test_every_field_stands_once_a_run_or_once_a_sample():
    assert {field.name for field in fields(Predictions)} == {*ONCE, *PER_SAMPLE, "probabilities"}


@pytest.mark.parametrize("closed", [True, False])
def test_each_column_is_taken_pooled_and_read_back(closed, tmp_path):
    one, other = rows(0, closed=closed), rows(3, closed=closed)
    taken = one.take([True, False, True])
    for name, column in columns(one).items():
        assert getattr(taken, name) == (column and (column[0], column[2]))
    both = pool([("a", one), ("b", other)])
    for name, column in columns(both).items():
        if name != "folds":
            assert column == (getattr(one, name) and getattr(one, name) + getattr(other, name))
    assert both.folds == ("a",) * 3 + ("b",) * 3
    write_predictions(tmp_path / "p.json", {"covid": {"injected": one}})
    read = read_predictions(tmp_path / "p.json")["covid"]["injected"]
    for name in (*ONCE, *PER_SAMPLE):
        assert getattr(read, name) == getattr(one, name)
    for row, expected in ((taken, [0, 2]), (read, [0, 1, 2])):
        assert row.probabilities is None or np.array_equal(row.probabilities, one.probabilities[expected])
    assert (both.probabilities is None) == (not closed)
