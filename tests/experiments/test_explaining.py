"""Tables that say why, on constructed cells whose answers and routes are known."""

import numpy as np
import pytest

from fedkim.evaluation.predictions import Predictions
from fedkim.experiments.explaining import against_majority, learning, reading_tables, routing
from fedkim.experiments.keeping import SUFFIX
from fedkim.experiments.predictions_table import write_table
from fedkim.experiments.scores import CellScores, Scores

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")

UNIFORM = [0.25] * 4
TRUTH = ("No", "Yes") * 20
"""Of lung opacity and, at ρ = 1, of what is linked with it."""
OTHER = ("No", "No", "Yes", "Yes") * 10


def scored(**values):
    return {name: {"value": value} for name, value in values.items()}


def closed(seen, accuracy=0.8, blindness=None):
    rows = {name: {"metrics": scored(accuracy=value)} for name, value in (("injected", accuracy), ("base", 0.5))}
    rows["majority"] = {"metrics": scored(accuracy=0.6)}
    return {"kind": "classification", "seen": seen, "rows": rows, "blindness": blindness or {}}


def text():
    parts = {"closed": {"metrics": scored(exact_match=0.6)}, "open": {"metrics": scored(exact_match=0.1)}}
    rows = {
        "injected": {"metrics": scored(exact_match=0.4), **parts},
        "base": {"metrics": scored(exact_match=0.0)},
        "majority_per_template": {"metrics": scored(exact_match=0.6)},
    }
    return {"kind": "text", "seen": False, "rows": rows, "blindness": {}}


def cell(seed, *, method="fedkim", routes=None, losses=(2.0, 1.0, 0.5, 0.4), rho=1.0, variation="", trained_in=""):
    asked = {"lung_opacity": {"pearson": 0.2, "n": 40}, "covid": {"pearson": 0.9, "n": 40}}
    record = {
        "run_info": {"config": f'[data]\nsource = "phantom"\nrho = {rho}\n', "cell": {"trained_in": trained_in}},
        "metrics": {
            "lung_opacity": closed(True),
            "covid": closed(True),
            "atelectasis": closed(False, 0.7, asked),
            "slake": text(),
        },
        "train_info": {
            "rounds": [{"round": number + 1, "injection": {"loss": [loss]}} for number, loss in enumerate(losses)]
        },
        "routes": routes or {},
    }
    name = f"{method}{'+' + variation if variation else ''}--fedavg--seed{seed}"
    return CellScores(method=method, variation=variation, backbone="fedavg", seed=seed, record=record, name=name)


def routes(first, second, *, nearest="covid"):
    return {
        "experts": 4,
        "tasks": {"lung_opacity": first, "covid": second, "atelectasis": UNIFORM},
        "entropy": {"lung_opacity": 1.0, "covid": 0.5, "atelectasis": 0.1},
        "collapsed": [],
        "indistinct": False,
        "nearest": {"atelectasis": {"task": nearest, "total_variation": 0.0}},
    }


def scores(*cells, synthetic=True):
    return Scores(name="constructed", synthetic=synthetic, cells=cells)


def test_accuracy_and_exact_match_stand_beside_the_rule_that_needs_no_patient():
    rows = {row[0]: row[3:] for row in against_majority(scores(cell(10))).rows}
    assert rows["FEDKIM"] == ["10.0", "-20.0", "-5.0", "60.0", "10.0"]
    assert rows["*language model alone*"] == ["-10.0", "-60.0", "-35.0", "–", "–"]


def test_the_loss_is_told_by_round_and_a_last_fall_says_that_it_had_not_come_to_rest():
    (row,) = learning(scores(cell(10), cell(11, losses=(4.0, 3.0, 1.0, 0.5)))).rows
    assert row[3:] == ["3.000", "0.750", "0.750", "0.450", "20 to 50 %"]
    assert not learning(scores(cell(10, losses=(1.0, 0.5)))).rows  # nothing to see of two rounds


def test_routes_are_told_of_trained_tasks_alone_and_once_for_cells_that_share_a_training():
    here = cell(10, routes=routes([0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0]))
    same = cell(10, routes=here.record["routes"], variation="rho-0", rho=0.0, trained_in=here.name)
    (row,) = routing(scores(here, cell(11, routes=routes(UNIFORM, UNIFORM, nearest="lung_opacity")), same)).rows
    assert row[:3] == ["FEDKIM", "fedavg", "2"]
    assert row[3] == "0.750 (0.750 to 0.750)"  # the unseen task's 0.1 doesn't count
    assert row[4] == "0.250 (0.000 to 0.500)"
    assert row[5] == "0.50"
    assert row[6] == "1 of 2"  # atelectasis is linked with lung opacity
    real = routing(scores(here, synthetic=False)).rows
    assert real[0][6] == "–"  # nobody knows which real finding is linked with which


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
    (found,) = reading_tables(tmp_path, scores(one))
    (row,) = found.rows
    assert row[3:] == ["100.0", "75.0", "50.0", "25.0", "25.0", "0 of 1"]
    assert not reading_tables(tmp_path, scores(one, synthetic=False))
    assert not reading_tables(tmp_path, scores(cell(10, rho=0.5)))
