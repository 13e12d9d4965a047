"""A cell on a hospital's own patients is kept without a draw and without what describes few; one on public data with its draws."""

import json
from dataclasses import replace

import pytest

from fedkim.experiments.keeping import DRAWS, keep_cell, read_kept
from fedkim.experiments.matrix import Cell
from fedkim.run.predictions_file import write_predictions
from hospital_results import answered, entry_of, many, run_of
from small_recipe import small

CELL = Cell(method="fedkim", variation="", backbone="fedavg", seed=0)


def few_in_the_group():
    """Forty patients, thirty of them in the group; of these one gave Yes."""
    truth = ["No"] * 29 + ["Yes"] + ["No", "Yes"] * 5
    groups = [frozenset({"pneumonia"})] * 30 + [frozenset()] * 10
    return answered([f"p{n}" for n in range(40)], truth, groups=groups, within="pneumonia", task="effusion")


def kept(tmp_path, source, configuration=None):
    row = few_in_the_group()
    result = run_of(covid=many(), effusion=entry_of(row, task="effusion"))
    recipe = small()
    recipe = replace(recipe, data=replace(recipe.data, source=source, roots={}))
    result["run_info"] |= {"config": recipe.to_toml(), "split": "test"}
    (tmp_path / "run").mkdir()
    write_predictions(tmp_path / "run" / "predictions.json", {"effusion": {"injected": row}}, keep_ids=False)
    cell = replace(CELL, configuration=configuration)
    return read_kept(keep_cell(tmp_path / "results", recipe, cell, result, run=tmp_path / "run", processor_seconds=1.5))


@pytest.mark.parametrize("configuration", [None, 0])
def test_of_a_hospitals_cell_neither_draws_nor_small_cells_are_kept(tmp_path, configuration):
    record = kept(tmp_path, "hospital", configuration)
    assert "draws" not in record
    assert set(record["metrics"]) == {"covid"}  # five outside of the group gave Yes
    assert record["meta_info"]["suppressed"]["tasks"] == ["effusion"]
    assert record["run_info"]["cell"]["method"] == "fedkim"
    assert record["run_info"]["processor_seconds"] == 1.5
    assert "effusion" not in json.dumps([record["metrics"], record["train_info"]])


def test_draws_of_public_patients_are_kept(tmp_path):
    record = kept(tmp_path, "pack")
    assert len(record["draws"]["effusion"]["injected"]) == DRAWS
    assert set(record["metrics"]) == {"covid", "effusion"}
