"""Tables that say why, on constructed cells whose answers and routes are known."""

from dataclasses import replace

import numpy as np
import pytest

from fedkim.evaluation.predictions import Predictions
from fedkim.experiments.explaining import against_majority, learning, routing
from fedkim.experiments.keeping import SUFFIX
from fedkim.experiments.predictions_table import write_table
from fedkim.experiments.reading import reading_tables
from fedkim.experiments.scores import CellScores, Scores

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")

UNIFORM = [0.25] * 4
TRUTH = ("No", "Yes") * 20
"""Of lung opacity and, as if it had the same threshold, of what is linked with it."""
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


def routes(first, second, unseen=UNIFORM):
    return {
        "experts": 4,
        "tasks": {"lung_opacity": first, "covid": second, "atelectasis": unseen},
        "entropy": {"lung_opacity": 1.0, "covid": 0.5, "atelectasis": 0.1},
        "collapsed": [],
        "indistinct": False,
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
    here = cell(10, routes=routes([0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0.4, 0.4, 0.1, 0.1]))
    same = cell(10, routes=here.record["routes"], variation="rho-0", rho=0.0, trained_in=here.name)
    (row,) = routing(scores(here, cell(11, routes=routes(UNIFORM, UNIFORM)), same)).rows
    assert row[:3] == ["FEDKIM", "fedavg", "2"]
    assert row[3] == "0.750 (0.750 to 0.750)"  # the unseen task's 0.1 doesn't count
    assert row[4] == "0.250 (0.000 to 0.500)"
    assert row[5] == "0.50"
    assert row[6] == "1 of 1"  # atelectasis is linked with lung opacity; in seed 11 nothing is nearest
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


def test_a_route_that_is_as_near_to_two_tasks_chose_neither():
    same = [0.4, 0.3, 0.2, 0.1]
    tied = cell(10, method="without-task", routes=routes(same, same))
    (row,) = routing(scores(tied)).rows
    assert row[6] == "–"
    apart = cell(10, routes=routes([0.25, 0.25, 0.24, 0.26], [0.4, 0.1, 0.25, 0.25]))
    assert routing(scores(apart)).rows[0][6] == "1 of 1"


def test_a_seed_of_several_cells_is_their_mean():
    sites = [cell(10, method="local-only.1"), cell(10, method="local-only.2", losses=(4.0, 3.0, 2.0, 1.0))]
    sites[1].record["metrics"]["atelectasis"]["rows"]["injected"] = {"metrics": scored(accuracy=0.9)}
    (row,) = against_majority(scores(*sites)).rows
    assert row[:4] == ["local-only (mean over the sites run)", "fedavg", "1", "20.0"]
    (row,) = learning(scores(*sites)).rows
    assert row[3] == "3.000"


def test_losses_of_other_targets_than_labels_have_no_row():
    taught = cell(10, method="taught")
    taught.record["run_info"]["config"] += '[injection]\nteacher = "decoder"\n'
    assert not learning(scores(taught)).rows


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
    assert row[3:] == ["100.0", "75.0", "50.0", "25.0", "25.0", "0 of 1"]
    (row,) = unread.rows  # both heads have .9, .5 or .1 in the mean, both answers .5 or .1
    assert row[3:] == ["100.0", "50.0", "87.5", "75.0", "50.0", "-12.5", "-25.0"]
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
