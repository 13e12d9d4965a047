"""A choice that was made is read by cells and tables alike, and a damaged one is told in one line."""

import json

import pytest

from fedkim.errors import FedkimError
from fedkim.experiments.choice_table import choice_tables
from fedkim.experiments.choosing import read_choice, seen_score

CHOICE = {
    "chosen": {"fedkim": 1},
    "scores": {"fedkim": {"0": 0.7, "1": 0.8}},
    "configurations": [["injection.learning_rate=1e-3"], ["injection.learning_rate=2e-3"]],
    "made_with": {"base": {}, "settings": {}, "cells": []},
}


def damaged(**changes):
    return json.dumps({**CHOICE, **changes})


def test_a_whole_choice_is_read_as_it_is(tmp_path):
    (tmp_path / "chosen.json").write_text(json.dumps(CHOICE))
    assert read_choice(tmp_path / "chosen.json") == CHOICE
    (table,) = choice_tables(tmp_path)
    assert table.rows[0][1:3] == ["70.0", "80.0 (chosen)"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"chosen": {}}',
        damaged(chosen=["fedkim"]),
        damaged(chosen={"fedkim": 2}),
        damaged(chosen={"fedkim": "1"}),
        damaged(scores={"fedkim": {"two": 0.7}}),
        damaged(scores={"fedkim": {"0": None}}),
        damaged(scores={"fedkim": [0.7]}),
        damaged(configurations=[["injection.learning_rate"], []]),
        damaged(configurations=[[1], [2]]),
        damaged(configurations=3),
        damaged(made_with={"base": {}}),
        damaged(made_with=None),
    ],
)
def test_a_damaged_choice_is_one_line_for_cells_and_tables(text, tmp_path):
    path = tmp_path / "chosen.json"
    path.write_text(text)
    for read in (lambda: read_choice(path), lambda: choice_tables(tmp_path)):
        with pytest.raises(FedkimError, match="no choice that can be read; restore it, or choose again") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_choice_that_was_never_made_is_told_so(tmp_path):
    with pytest.raises(FedkimError, match="none yet; choose first"):
        read_choice(tmp_path / "chosen.json")
    assert choice_tables(tmp_path) == []


def of_tasks(**values):
    """A result of seen tasks with these scores."""
    return {
        "metrics": {
            name: {"seen": True, "rows": {"injected": {"primary": {"value": value}}}} for name, value in values.items()
        }
    }


def test_a_seen_task_without_a_score_ends_a_choice_in_one_line(tmp_path):
    assert seen_score(of_tasks(covid=0.75, mortality=0.25), tmp_path / "cell.json") == 0.5
    with pytest.raises(FedkimError, match=r"cell\.json, found no AUROC of the seen task 'covid', expected development"):
        seen_score(of_tasks(covid=None, mortality=0.25), tmp_path / "cell.json")
    with pytest.raises(FedkimError, match="no seen task's score"):
        seen_score({"metrics": {}}, tmp_path / "cell.json")
