import json

import pytest
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError
from fedkim.recipe import Data
from fedkim.run.trained import NAME, elsewhere, refuse_trained, remember_trained


def cohort(splits, *, synthetic=False):
    samples = [
        Sample(id=f"s{patient}", patient=f"nih/{patient}", split=split, inputs={"image": torch.zeros(1)}, labels={})
        for patient, split in splits.items()
    ]
    return Dataset(samples, synthetic=synthetic)


LEARNED = cohort({"a": "private", "b": "public", "c": "development", "d": "test", "e": "test"})


def test_patients_learned_from_are_refused_by_number_and_not_by_name(tmp_path):
    remember_trained(tmp_path, LEARNED, "public")
    refuse_trained(tmp_path, LEARNED, "test")
    with pytest.raises(FedkimError, match="found 2 of the 3 test patients") as caught:
        refuse_trained(tmp_path, cohort({"a": "test", "b": "test", "d": "test", "c": "private"}), "test")
    assert "nih" not in str(caught.value)


def test_what_is_kept_names_nobody_and_two_runs_keep_different_things(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        remember_trained(tmp_path / name, LEARNED, "pack")
    one, two = (json.loads((tmp_path / name / NAME).read_text()) for name in ("one", "two"))
    assert "nih" not in json.dumps(one)
    assert len(one["patients"]) == 3
    assert not set(one["patients"]) & set(two["patients"])


def test_a_resumed_run_keeps_its_list(tmp_path):
    remember_trained(tmp_path, LEARNED, "pack")
    before = (tmp_path / NAME).read_bytes()
    remember_trained(tmp_path, LEARNED, "pack")
    assert (tmp_path / NAME).read_bytes() == before


def test_nothing_is_kept_of_a_hospitals_patients_or_of_synthetic_ones(tmp_path):
    remember_trained(tmp_path, LEARNED, "hospital")
    remember_trained(tmp_path, cohort({"a": "private"}, synthetic=True), "phantom")
    assert not list(tmp_path.iterdir())
    refuse_trained(tmp_path, LEARNED, "development")  # a run without a list can't tell


def test_a_list_that_was_cut_short_is_refused(tmp_path):
    (tmp_path / NAME).write_text('{"key": "00')
    with pytest.raises(FedkimError, match=r"trained\.json"):
        refuse_trained(tmp_path, LEARNED, "test")


def test_another_folder_takes_the_place_of_the_pack_or_of_the_one_public_set(tmp_path):
    there = str(tmp_path)
    assert elsewhere(Data(source="pack", root="a"), there).root == there
    assert elsewhere(Data(source="public", roots={"rsna": "a"}), there).roots == {"rsna": there}
    with pytest.raises(FedkimError, match="2 public sets"):
        elsewhere(Data(source="public", roots={"rsna": "a", "covid": "b"}), there)


def test_a_folder_that_isnt_there_or_that_no_data_come_from_is_refused(tmp_path):
    with pytest.raises(FedkimError, match=r"--data .*absent, found no such file or folder"):
        elsewhere(Data(source="pack", root="a"), str(tmp_path / "absent"))
    with pytest.raises(FedkimError, match=r"the run's data are drawn, not read; give a hospital's site\.toml"):
        elsewhere(Data(source="phantom"), str(tmp_path))
