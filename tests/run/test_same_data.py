"""A run is of its data: other data under the same recipe are neither resumed nor answered for."""

from dataclasses import replace

import pytest
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError
from fedkim.run import federate, run_recipe, same_data
from fedkim.run.same_data import NAME, data_digest
from small_recipe import small

RECIPE = small("federation.rounds=2", "evaluation.blind=false")
FIRST = Sample(
    id="a", patient="p", split="private", inputs={"image": torch.zeros(1, 4, 4)}, labels={"covid": "Yes"}, strata={}
)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"},
        {"patient": "q"},
        {"split": "test"},
        {"site": "ward"},
        {"labels": {"covid": "No"}},
        {"labels": {"covid": "Yes", "lung_opacity": "No"}},
        {"questions": {"slake": "Where?"}},
        {"groups": frozenset({"pneumonia"})},
        {"strata": {"record": "1"}},
        {"inputs": {"image": torch.zeros(1, 8, 8)}},
    ],
)
def test_whatever_a_sample_is_counts(change):
    assert data_digest(Dataset([replace(FIRST, **change)])) != data_digest(Dataset([FIRST]))


def test_order_counts_and_last_bits_of_inputs_do_not():
    second = replace(FIRST, id="b")
    assert data_digest(Dataset([FIRST, second])) != data_digest(Dataset([second, FIRST]))
    nudged = replace(FIRST, inputs={"image": torch.full((1, 4, 4), 1e-9)})
    assert data_digest(Dataset([nudged])) == data_digest(Dataset([FIRST]))


def test_a_run_is_neither_resumed_nor_reprinted_on_other_data(tmp_path, monkeypatch):
    rounds = federate(RECIPE, out=tmp_path)
    next(rounds)
    rounds.close()
    version = same_data.GENERATOR_VERSION
    monkeypatch.setattr(same_data, "GENERATOR_VERSION", version + 1)  # as if another program had drawn the patients
    with pytest.raises(FedkimError, match="other data than it began with"):
        run_recipe(RECIPE, out=tmp_path)
    monkeypatch.setattr(same_data, "GENERATOR_VERSION", version)
    result = run_recipe(RECIPE, out=tmp_path)
    moved = replace(RECIPE, data=replace(RECIPE.data, root="/elsewhere"))
    assert run_recipe(moved, out=tmp_path)["train_info"]["digest"] == result["train_info"]["digest"]
    monkeypatch.setattr(same_data, "GENERATOR_VERSION", version + 1)
    with pytest.raises(FedkimError, match="begin anew with --force"):
        run_recipe(moved, out=tmp_path)
    run_recipe(moved, out=tmp_path, force=True)


def test_a_damaged_digest_is_told(tmp_path):
    next(federate(RECIPE, out=tmp_path))
    (tmp_path / NAME).write_text("{")
    with pytest.raises(FedkimError, match="unreadable; restore it"):
        run_recipe(RECIPE, out=tmp_path)
