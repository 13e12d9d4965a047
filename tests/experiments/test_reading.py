"""What is lost in reading and in wording, on constructed answers."""

from dataclasses import replace

import numpy as np
import pytest

from constructed_cells import cell, scores
from fedkim.evaluation.predictions import Predictions
from fedkim.experiments.keeping import SUFFIX
from fedkim.experiments.predictions_table import write_table
from fedkim.experiments.reading import reading_tables

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")

TRUTH = ("No", "Yes") * 20
"""Of lung opacity and, as if it had the same threshold, of what is linked with it."""
OTHER = ("No", "No", "Yes", "Yes") * 10


def predictions(task, answers, **named):
    patients = tuple(f"patient-{place}" for place in range(len(answers)))
    return {
        name: Predictions(
            task=task,
            split="test",
            samples=patients,
            patients=patients,
            truth=answers,
            answers=("No", "Yes"),
            probabilities=np.stack([1 - np.array(values), np.array(values)], axis=1),
        )
        for name, values in named.items()
    }


def test_what_reading_and_what_wording_lose_is_told_apart(tmp_path):
    right = [0.9 if truth == "Yes" else 0.1 for truth in TRUTH]
    half = [0.9 if truth == "Yes" else 0.1 for truth in OTHER]  # says nothing about TRUTH
    blurred = [0.9 if truth == "Yes" and place % 4 == 1 else 0.1 for place, truth in enumerate(TRUTH)]
    table = {
        "lung_opacity": predictions("lung_opacity", TRUTH, injected=blurred, small_before=right),
        "covid": predictions("covid", OTHER, injected=half, small_before=half),
        "atelectasis": predictions("atelectasis", TRUTH, injected=half),
    }
    one = cell(10)
    write_table(tmp_path / (one.name + SUFFIX), table)
    lost, unread = reading_tables(tmp_path, scores(one))
    (row,) = lost.rows
    assert row[3:] == ["100.0", "75.0", "50.0", "+25.0", "+25.0", "0 of 1"]
    (row,) = unread.rows  # both heads have .9, .5 or .1 in the mean, both answers .5 or .1
    assert row[3:] == ["100.0", "50.0", "87.5", "75.0", "50.0", "-12.5", "-25.0", "-37.5"]
    again, _ = reading_tables(tmp_path, scores(one, cell(11)))  # whose answers are lost
    assert again.rows[0][2:4] == ["1", "100.0"]
    random = cell(10, variation="random-model")
    write_table(tmp_path / (random.name + SUFFIX), table)
    assert [row[0] for row in reading_tables(tmp_path, scores(one, random))[1].rows] == [
        "FEDKIM",
        "FEDKIM, random-model",
    ]
    all_alike = {task: {n: replace(p, truth=("No",) * 40) for n, p in rows.items()} for task, rows in table.items()}
    write_table(tmp_path / (cell(12).name + SUFFIX), all_alike)
    assert not reading_tables(tmp_path, scores(cell(12)))  # no AUROC of one class
    assert not reading_tables(tmp_path, scores(one, synthetic=False))
    assert not reading_tables(tmp_path, scores(cell(10, rho=0.5)))
