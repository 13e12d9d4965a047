"""What leaves a hospital: every key of it by name, cells of ten patients and more, averages over unknown numbers to two places."""

import json
from copy import deepcopy

import pytest

from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.scoring import score_rows
from fedkim.evaluation.suppression import METRICS, suppressed, suppressed_result
from fedkim.report.scores import METRICS as SHOWN
from hospital_results import answered, entry_of, many, run_of


def test_curves_lose_hidden_tasks_and_all_but_two_places():
    (told,) = suppressed_result(run_of())["train_info"]["rounds"]
    assert told["development"] == {"covid": 0.33}  # in full a third: of three patients, or few more
    assert told["development_small"] == {"covid": None}
    assert told["injection"]["tasks"] == {"covid": 0.33}
    assert told["injection"]["loss"] == [0.17]  # no step's own
    assert told["rejected"] == {"ward-c": "E-COUNT"}


def test_of_a_ward_of_few_patients_neither_loss_nor_time_nor_count_leaves():
    (told,) = suppressed_result(run_of())["train_info"]["rounds"]
    assert told["sites"]["ward-a"] == {
        "bytes_sent": 9,
        "bytes_received": 9,
        "digest": "ab",
        "seconds": 7.5,
        "loss": 0.12,
    }
    assert told["sites"]["ward-b"] == {"bytes_sent": 9, "bytes_received": 9, "digest": "ab"}


def test_no_bootstrap_draw_leaves():
    told = suppressed_result({**run_of(), "draws": {"covid": {"injected": [0.71234] * 200}}})
    assert "draws" not in told
    assert "0.71234" not in json.dumps(told)


def test_question_blindness_has_two_places_and_stays_where_it_is_of_few_inputs():
    table = {
        "pneumonia": {"pearson": 0.98765, "spearman": -0.12345, "n": 10, "reason": ""},
        "opacity": {"pearson": 0.5, "spearman": 0.5, "n": 9, "reason": ""},
        "edema": {"pearson": None, "spearman": None, "n": 40, "reason": "one of the two gives every input the same score"},
    }  # fmt: skip
    told = suppressed({**many(), "blindness": table})["blindness"]
    assert told["pneumonia"] == {"pearson": 0.99, "spearman": -0.12, "n": 10, "reason": ""}
    assert told["edema"] == table["edema"]
    assert set(told) == {"pneumonia", "edema"}


@pytest.mark.parametrize("windows", [1, 10])
def test_ten_windows_of_one_patient_are_one_patient(windows):
    patients = [f"n{n}" for n in range(30)] + ["the one"] * windows
    row = answered(patients, ["No"] * 30 + ["Yes"] * windows)
    entry = entry_of(row)
    assert entry["rows"]["injected"]["counts"] == {"No": 30, "Yes": windows}
    assert entry["rows"]["injected"]["patients_by_answer"] == {"No": 30, "Yes": 1}
    told = suppressed(entry)
    assert set(told["rows"]) == {"injected", "base"}
    assert set(told["rows"]["injected"]["metrics"]) == {"auroc"}
    assert "counts" not in told["rows"]["injected"]


def test_ten_patients_an_answer_are_shown_and_how_many_they_are_by_answer_stays():
    told = suppressed(many())
    assert told["rows"]["injected"]["counts"] == {"No": 20, "Yes": 15}
    assert told["rows"]["injected"]["metrics"]["accuracy"]["value"] is not None
    assert "patients_by_answer" not in json.dumps(told)


def test_patients_are_counted_inside_and_outside_of_a_group():
    def entry(inside, outside):
        """Patients' names by answer; each sample belongs to the group or not."""
        rows = [(p, a, frozenset({"pneumonia"})) for a in inside for p in inside[a]]
        rows += [(p, a, frozenset()) for a in outside for p in outside[a]]
        patients, truth, groups = zip(*rows)
        return entry_of(answered(patients, truth, groups=groups, within="pneumonia"))

    some, others = [f"a{n}" for n in range(12)], [f"b{n}" for n in range(12)]
    far, away = [f"c{n}" for n in range(12)], [f"d{n}" for n in range(12)]
    whole = entry({"No": some, "Yes": others}, {"No": far, "Yes": away})
    assert suppressed(whole)["rows"]["injected"]["group"]["counts"] == {"No": 12, "Yes": 12}
    assert "patients_by_answer" not in json.dumps(suppressed(whole))
    one_inside = suppressed(entry({"No": some, "Yes": ["b0"] * 12}, {"No": far, "Yes": away}))
    assert "group" not in one_inside["rows"]["injected"]
    assert suppressed(entry({"No": some, "Yes": others}, {"No": far, "Yes": ["d0"] * 12})) is None


def test_ten_closed_questions_about_one_patient_are_no_ten_patients():
    def asked(closed):
        patients = [f"p{n}" for n in range(20)] + closed
        row = Predictions(
            task="slake",
            split="test",
            samples=tuple(map(str, range(len(patients)))),
            patients=tuple(patients),
            truth=("the lung",) * 20 + ("yes",) * len(closed),
            generated=("the lung",) * len(patients),
        )
        return suppressed(score_rows({"injected": row}, seen=False, draws=20))["rows"]["injected"]

    assert not {"closed", "open"} & set(asked(["p0"] * 10))
    assert asked([f"p{n}" for n in range(10)])["closed"]["n"] == 10


def test_what_nobody_has_named_does_not_get_out():
    """A key planted at every place where keys are ours (and not names of tasks, sites, rows or files)."""
    planted = run_of(
        covid={**many(), "blindness": {"opacity": {"pearson": 0.5, "spearman": 0.5, "n": 40, "reason": ""}}}
    )
    task = planted["metrics"]["covid"]
    row = task["rows"]["injected"]
    row["tuned"] = {"threshold": 0.4, "source": "development", "metrics": deepcopy(row["metrics"])}
    row["closed"] = {"n": 40, "patients": 20, "metrics": deepcopy(row["metrics"])}
    row["group"] = {"name": "pneumonia", **deepcopy(row)}
    (round_,) = planted["train_info"]["rounds"]
    meta = planted["meta_info"]
    places = [
        planted, planted["run_info"], planted["train_info"], planted["routes"], meta, meta["sites"]["ward-a"],
        meta["statistics"]["ward-a"], round_, round_["sites"]["ward-a"], round_["injection"], round_["injection"]["routes"],
        task, task["sites"], task["sites"]["by_site"]["ward"], task["differences"]["base"], task["blindness"]["opacity"],
        row, row["metrics"], row["metrics"]["auroc"], row["primary"], row["tuned"], row["tuned"]["metrics"]["f1"],
        row["closed"], row["group"], row["group"]["metrics"], row["group"]["primary"],
    ]  # fmt: skip
    for place in places:
        place["new"] = {"value": "planted"}
    told = suppressed_result(planted)
    assert json.dumps(planted).count("planted") >= len(places)
    assert "planted" not in json.dumps(told)
    for kept in ("tuned", "closed", "group"):
        assert kept in told["metrics"]["covid"]["rows"]["injected"]
    assert told["metrics"]["covid"]["blindness"]


def test_a_second_time_changes_nothing():
    once = suppressed_result(run_of())
    assert suppressed_result(once) == once
    assert once["meta_info"]["suppressed"] == {"smallest_cell": 10, "tasks": ["mortality"]}


def test_every_score_that_a_report_knows_is_named():
    assert set(METRICS) == set(SHOWN)
    assert set(many()["rows"]["injected"]["metrics"]) <= set(METRICS)
