"""Methods over folds of real patients, from aggregates and kept draws alone."""

from dataclasses import replace

import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.experiments.fold_tables import fold_tables
from fedkim.experiments.scores import CellScores, Scores

RANDOM = np.random.default_rng(0)
DRAWS = {fold: RANDOM.normal(0.0, 0.02, 200) for fold in ("fold-0", "fold-1")}


def cell(method, fold, value, *, draws=None):
    entry = {"kind": "classification", "seen": True, "rows": {"injected": {"primary": {"value": value}, "metrics": {}}}}
    kept = {"mortality": {"injected": [value + noise for noise in DRAWS[fold]] if draws is None else draws}}
    record = {"metrics": {"mortality": entry}, "draws": kept, "meta_info": {"synthetic": False}}
    return CellScores(method=method, variation=fold, backbone="fedavg", seed=0, record=record)


def tables(*cells):
    return {table.title: table for table in fold_tables(Scores(name="real", synthetic=False, cells=cells))}


def test_a_score_is_the_mean_over_folds_with_the_draws_of_their_mean():
    found = tables(cell("fedkim", "fold-0", 0.70), cell("fedkim", "fold-1", 0.80))
    (row,) = found["Real patients: seen tasks"].rows
    low, high = np.percentile(75 + 50 * (DRAWS["fold-0"] + DRAWS["fold-1"]), [2.5, 97.5])
    assert row == ["FEDKIM", *[f"75.0 [{low:.1f}, {high:.1f}]"] * 3]


def test_differences_are_paired_and_only_over_folds_that_both_have():
    found = tables(
        cell("fedplug", "fold-0", 0.65),
        cell("fedkim", "fold-0", 0.70),
        cell("fedkim", "fold-1", 0.99),
    )
    assert found["Real patients: differences"].rows == [["FEDKIM − FedPlug", *["+5.0 [+5.0, +5.0]"] * 2, "–", "–"]]
    assert found["Real patients: seen tasks"].note.startswith("AUROC, mean over 1 folds")


@pytest.mark.parametrize("draws", [[None] * 200, [None] * 150 + [0.7] * 50])
def test_draws_that_hardly_exist_give_no_interval(draws):
    found = tables(cell("fedkim", "fold-0", 0.70, draws=draws))
    assert found["Real patients: seen tasks"].rows[0][1] == "70.0"


def test_a_draw_without_a_score_on_one_fold_is_left_out_whole():
    low, high = (50 + 100 * np.percentile(DRAWS["fold-0"][100:], q) / 2 for q in (2.5, 97.5))
    half = [None] * 100 + [0.5] * 100  # were it not, these draws would be the other fold's alone
    found = tables(cell("fedkim", "fold-0", 0.5), cell("fedkim", "fold-1", 0.5, draws=half))
    assert found["Real patients: seen tasks"].rows[0][1] == f"50.0 [{low:.1f}, {high:.1f}]"


def test_a_task_of_few_patients_takes_the_interval_from_the_mean_with_it_alone():
    both = cell("fedkim", "fold-0", 0.70)
    few = cell("fedkim", "fold-0", 0.90, draws=[None] * 200).record
    both.record["metrics"]["pvc"], both.record["draws"]["pvc"] = few["metrics"]["mortality"], few["draws"]["mortality"]
    (row,) = tables(both)["Real patients: seen tasks"].rows
    assert row[2:4] == ["90.0", "80.0"]
    assert row[1] == row[4]
    assert row[4].startswith("70.0 [")


def test_an_injected_model_is_compared_with_its_own_small_models_draw_by_draw():
    parts = [cell("fedkim", fold, value) for fold, value in (("fold-0", 0.70), ("fold-1", 0.80))]
    for part in parts:
        part.record["metrics"]["mortality"]["rows"]["small_before"] = {"primary": {"value": 0.85}, "metrics": {}}
        part.record["draws"]["mortality"]["small_before"] = [0.85 + noise for noise in DRAWS[part.variation]]
    (row,) = tables(*parts)["Real patients: less the small models, less the best seen head"].rows
    assert row == ["FEDKIM", "-10.0 [-10.0, -10.0]"]  # the same patients are drawn for both


def test_free_text_stands_beside_the_majority_of_the_template():
    part = cell("fedkim", "fold-0", 0.40)
    entry = part.record["metrics"].pop("mortality") | {"kind": "text", "seen": False}
    entry["rows"]["majority_per_template"] = {"primary": {"value": 0.60}, "metrics": {}}
    part.record["metrics"]["nih_vqa"] = entry
    part.record["draws"]["nih_vqa"] = {"injected": [None] * 200}
    table = tables(part)["Real patients: unseen free text"]
    assert table.note.startswith("Exact match")
    assert table.rows == [["FEDKIM", "40.0", "40.0", "–"], ["*majority of the template*", "60.0", "60.0", "–"]]


def test_one_method_twice_on_a_fold_is_refused():
    twice = [replace(cell("fedkim", "fold-0", 0.7), backbone=backbone) for backbone in ("fedavg", "fedprox")]
    with pytest.raises(FedkimError, match="fedkim twice on fold-0"):
        tables(*twice)


def test_without_folds_there_is_no_table():
    assert tables() == {}
