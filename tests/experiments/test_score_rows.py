"""Scores as CSV hold what the tables show."""

import csv
from pathlib import Path
from statistics import fmean

import pytest

from constructed_cells import cell, scores
from fedkim.experiments.score_rows import scores_csv
from fedkim.experiments.scores import read_scores

RESULTS = Path(__file__).parents[2] / "results"


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", ["paper-matrix", "real-pack-fold"])
def test_every_mean_can_be_computed_from_the_lines(name):
    found = read_scores(RESULTS / name)
    rows = rows_of(scores_csv(found))
    assert {row["seed"] for row in rows} == {str(one.seed) for one in found.cells}
    for method, variation, backbone in found.groups():
        if method == "local-only":
            continue
        for which, seen, kind in (("seen", "1", "classification"), ("unseen", "0", "classification")):
            by_seed = {}
            for row in rows:
                asked = (row["method"], row["variation"], row["backbone"], row["seen"], row["kind"])
                if asked == (method, variation, backbone, seen, kind) and (row["row"], row["primary"]) == (
                    "injected",
                    "1",
                ):
                    by_seed.setdefault(int(row["seed"]), []).append(100 * float(row["value"]))
            means = {seed: fmean(values) for seed, values in by_seed.items()}
            assert means
            assert means == pytest.approx(found.by_seed(method, which, variation=variation, backbone=backbone))


def test_cells_of_a_choice_have_their_primary_scores():
    found = read_scores(RESULTS / "choice" / "paper-matrix")
    rows = rows_of(scores_csv(found))
    assert {row["primary"] for row in rows} == {"1"}
    one = found.cells[0]
    values = [float(row["value"]) for row in rows if row["method"] == one.method and row["row"] == "injected"]
    assert 0 < min(values) <= max(values) < 1


def test_a_task_scored_on_a_group_has_that_score_and_the_one_of_all_patients():
    one = cell(10)
    one.record["metrics"] = {"covid": one.record["metrics"]["covid"]}
    metrics = {"auroc": {"value": 0.7, "low": 0.6, "high": 0.8}, "f1": {"value": None}}
    one.record["metrics"]["covid"]["rows"] = {
        "injected": {"primary": {"metric": "auroc", "within": "pneumonia", "value": 0.5}, "metrics": metrics}
    }
    lines = [list(row.values())[9:] for row in rows_of(scores_csv(scores(one)))]
    assert lines == [
        ["auroc", "pneumonia", "1", "0.5", "", ""],
        ["auroc", "", "0", "0.7", "0.6", "0.8"],
        ["f1", "", "0", "", "", ""],
    ]
