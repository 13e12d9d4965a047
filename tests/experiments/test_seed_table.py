"""Means seed by seed, on constructed cells."""

from constructed_cells import cell, scores
from fedkim.experiments.seed_table import seed_table


def judged(one, **values):
    """The cell with primary scores of 0.8 but where told otherwise, as ``task_row=value``."""
    for task, entry in one.record["metrics"].items():
        for name in ("injected", "small_before"):
            if name in entry["rows"] or entry["seen"]:
                row = entry["rows"].setdefault(name, {"metrics": {}})
                row["primary"] = {"metric": "auroc", "value": values.get(f"{task}_{name}", 0.8)}
    return one


def test_a_seed_has_its_means_side_by_side_and_a_dash_where_nothing_was_run():
    first = judged(cell(10), covid_injected=0.9, covid_small_before=0.7, atelectasis_injected=0.6, slake_injected=None)
    other = judged(cell(11, method="fedplug"))
    again = judged(cell(11))
    table = seed_table(scores(first, again, other))
    assert table.header[2:] == ["seed 10", "seed 11"]
    assert table.rows == [
        ["FedPlug", "fedavg", "–", "80.0 / 80.0 / 80.0 / 80.0"],
        ["FEDKIM", "fedavg", "85.0 / 75.0 / 60.0 / –", "80.0 / 80.0 / 80.0 / 80.0"],
    ]


def test_a_variation_is_told_of_the_main_settings_tasks_and_a_repetition_for_blind_isnt_told():
    more = judged(cell(11, variation="questions"))
    more.record["metrics"]["noisy"] = judged(cell(12), covid_injected=0.0).record["metrics"]["covid"]
    rows = seed_table(scores(judged(cell(10)), judged(cell(11)), more, judged(cell(10, variation="blind")))).rows
    assert [row[0] for row in rows] == ["FEDKIM", "FEDKIM, questions"]
    assert rows[1][2:] == ["–", "80.0 / 80.0 / 80.0 / 80.0"]


def test_one_seed_a_row_pairs_nothing():
    assert not seed_table(scores(judged(cell(10)))).rows
