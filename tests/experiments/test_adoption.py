"""Cells that differ in ρ or in the blind reference alone: that training is the same is trained out, not believed; then they share it."""

import json
from dataclasses import replace

import pytest

from fedkim.experiments import adoption
from fedkim.experiments import cells as cells_module
from fedkim.experiments.adoption import donor_of, heirs_of
from fedkim.experiments.cells import run_cell
from fedkim.experiments.paper_tables import seen_tasks, zero_shot_generation
from fedkim.experiments.scores import read_scores
from fedkim.experiments.table import DASH, shown
from fedkim.run import run_recipe
from small_matrix import small_matrix

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")

CELLS = """
[[cells]]
methods = ["fedkim", "fedplug"]
seeds = [10]
[[cells]]
methods = ["fedkim"]
seeds = [10]
variation = "rho-0"
set = ["data.rho=0.0"]
[[cells]]
methods = ["fedkim"]
seeds = [10]
variation = "blind"
set = ["evaluation.blind=true"]
[[cells]]
methods = ["fedkim"]
seeds = [10]
variation = "longer"
set = ["injection.steps_per_round=3"]
"""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return small_matrix(tmp_path_factory.mktemp("matrix"), CELLS)


def pair_of(matrix):
    """The cell of the main setting and its heir."""
    return [cell for cell in matrix.cells if cell.method == "fedkim" and cell.variation in ("", "rho-0")]


def blind_of(matrix):
    """The other heir."""
    return next(cell for cell in matrix.cells if cell.variation == "blind")


def results(matrix, folder):
    return {
        cell.group: json.loads((folder / "small-matrix" / f"{cell.name}.json").read_text())
        for cell in matrix.cells
        if (folder / "small-matrix" / f"{cell.name}.json").exists()
    }


def test_only_cells_that_train_alike_have_a_donor(matrix):
    cells = {cell.group: cell for cell in matrix.cells}
    main, unlinked = cells["fedkim--fedavg"], cells["fedkim+rho-0--fedavg"]
    assert donor_of(matrix, unlinked) == main
    assert heirs_of(matrix, main) == [unlinked, cells["fedkim+blind--fedavg"]]
    assert donor_of(matrix, cells["fedkim+longer--fedavg"]) is None
    assert heirs_of(matrix, cells["fedplug--fedavg"]) == []
    batches = [[cell.group for cell in batch] for batch in cells_module._batches(matrix, matrix.cells, {})]
    assert batches == [
        ["fedkim--fedavg", "fedkim+rho-0--fedavg", "fedkim+blind--fedavg"],
        ["fedplug--fedavg"],
        ["fedkim+longer--fedavg"],
    ]


def test_a_linked_finding_that_is_not_unseen_shares_nothing(tmp_path):
    other = small_matrix(tmp_path, CELLS, unseen='["enlarged_cardiomediastinum", "pleural_effusion", "slake"]')
    assert [cell.variation for cell in other.cells if donor_of(other, cell)] == ["blind"]


def test_an_adopted_training_is_the_one_that_the_cell_would_have_done_itself(matrix, tmp_path, monkeypatch):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    family = [*pair_of(matrix), blind_of(matrix)]
    for cell in family:
        run_cell(matrix, cell, runs=shared / "runs", results=shared)
    monkeypatch.setattr(cells_module, "adopt", lambda *_: False)
    for cell in family:
        run_cell(matrix, cell, runs=alone / "runs", results=alone)
    trained, adopted = results(matrix, alone), results(matrix, shared)
    for heir in (cell.group for cell in family[1:]):
        assert trained[heir]["train_info"]["digest"] == trained["fedkim--fedavg"]["train_info"]["digest"]
        assert adopted[heir]["train_info"]["digest"] == trained[heir]["train_info"]["digest"]
        assert adopted[heir]["metrics"] == trained[heir]["metrics"]
        assert adopted[heir]["metrics"] != adopted["fedkim--fedavg"]["metrics"]
        assert adopted[heir]["run_info"]["cell"]["trained_in"] == "fedkim--fedavg--seed10"
        assert trained[heir]["run_info"]["cell"]["trained_in"] == ""
    assert not list(shared.glob("runs/*/*/rounds"))  # the donor's weights go with the last heir


def test_the_blind_reference_of_its_own_cells_stands_beside_every_methods_scores(matrix, tmp_path):
    for cell in (pair_of(matrix)[0], blind_of(matrix)):
        run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path)
    scores = read_scores(tmp_path / matrix.name)
    seen, written = (
        next(row for row in table(scores).rows if "(blind)" in row[0]) for table in (seen_tasks, zero_shot_generation)
    )
    assert seen[3 : 3 + len(scores.tasks("seen"))] == ["50.0"] * len(scores.tasks("seen"))  # everybody gets one answer
    assert written[3] == shown(scores.task_by_seed("fedkim", "slake", row="blind", variation="blind")) != DASH


def test_weights_that_an_earlier_call_kept_outlive_a_later_calls_heirs(matrix, tmp_path):
    main, unlinked = pair_of(matrix)
    folders = {"runs": tmp_path / "runs", "results": tmp_path}
    run_cell(matrix, main, **folders, keep=main.name)
    run_cell(matrix, unlinked, **folders)
    assert [path.parent.name for path in tmp_path.glob("runs/*/*/rounds")] == [main.name]


def test_a_cell_cut_off_after_it_adopted_still_says_where_it_was_trained(matrix, tmp_path):
    main, unlinked = pair_of(matrix)
    folders = {"runs": tmp_path / "runs", "results": tmp_path}
    run_cell(matrix, main, **folders)
    folder = tmp_path / "runs" / matrix.name
    assert adoption.adopt(matrix.recipe(unlinked), folder / unlinked.name, folder / main.name)
    run_cell(matrix, unlinked, **folders)  # begins where the last process was killed
    assert results(matrix, tmp_path)[unlinked.group]["run_info"]["cell"]["trained_in"] == main.name


def test_without_its_donor_a_cell_trains_by_itself(matrix, tmp_path):
    unlinked = next(cell for cell in matrix.cells if cell.variation == "rho-0")
    folder = tmp_path / "runs" / "small-matrix"
    assert not adoption.adopt(matrix.recipe(unlinked), folder / unlinked.name, folder / "fedkim--fedavg--seed10")
    run_cell(matrix, unlinked, runs=tmp_path / "runs", results=tmp_path)
    assert results(matrix, tmp_path)[unlinked.group]["run_info"]["cell"]["trained_in"] == ""


def test_a_donor_trained_under_other_settings_is_none(matrix, tmp_path):
    main, unlinked = pair_of(matrix)
    run_recipe(
        replace(matrix.recipe(main), extraction=replace(matrix.recipe(main).extraction, width=8)), out=tmp_path / "main"
    )
    assert not adoption.adopt(matrix.recipe(unlinked), tmp_path / "own", tmp_path / "main")
