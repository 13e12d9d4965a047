import errno
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import fedkim.run.rounds as rounds_module
from fedkim.data.sample import Dataset
from fedkim.run import federate
from fedkim.run.pipeline import load_parts
from fedkim.run.same_data import contents_digest
from small_recipe import small


def digests(recipe):
    return [done.state.digest() for done in federate(recipe)]


def test_sharing_the_first_extraction_changes_no_bit_and_saves_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    alone = digests(small("federation.rounds=2"))
    assert not (tmp_path / "extraction").exists()
    assert digests(small("federation.rounds=2", "run.share_extraction=true")) == alone
    (kept,) = (tmp_path / "extraction").glob("*.safetensors")
    assert (tmp_path / "extraction").stat().st_mode & 0o077 == 0  # single sites' updates are nobody else's
    trained = []
    train = rounds_module.InProcess.__call__

    def recorded(self, round, state):
        trained.append(round)
        yield from train(self, round, state)

    monkeypatch.setattr(rounds_module.InProcess, "__call__", recorded)
    assert digests(small("federation.rounds=2", "run.share_extraction=true")) == alone
    assert trained == [2]
    other = digests(small("federation.rounds=2", "run.share_extraction=true", "m3oe.experts=1"))
    assert other != alone
    assert list((tmp_path / "extraction").glob("*.safetensors")) == [kept]
    digests(small("federation.rounds=2", "run.share_extraction=true", "run.seed=3"))
    assert len(list((tmp_path / "extraction").glob("*.safetensors"))) == 2


def test_whatever_no_injection_has_touched_is_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    frozen = ("federation.rounds=3", "injection.train_encoders=false")
    alone = digests(small(*frozen))
    assert digests(small(*frozen, "run.share_extraction=true")) == alone
    assert len(list((tmp_path / "extraction").glob("*.safetensors"))) == 3
    monkeypatch.setattr(rounds_module.InProcess, "__call__", None)  # nobody trains
    assert digests(small(*frozen, "run.share_extraction=true")) == alone
    assert digests(small(*frozen, "run.share_extraction=true", "m3oe.experts=1"))


def cut_short(data):
    return data[:100]


def with_a_flipped_bit(data):
    return data[:-1] + bytes([data[-1] ^ 64])


@pytest.mark.parametrize("harm", [cut_short, with_a_flipped_bit])
def test_a_damaged_file_is_made_again(tmp_path, monkeypatch, harm):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    recipe = small("federation.rounds=1", "run.share_extraction=true")
    before = digests(recipe)
    (kept,) = (tmp_path / "extraction").glob("*.safetensors")
    whole = {key: tensor.clone() for key, tensor in load_file(kept).items()}  # not mapped: the file is harmed
    kept.write_bytes(harm(kept.read_bytes()))
    assert digests(recipe) == before
    again = load_file(kept)
    assert all(torch.equal(tensor, whole[key]) for key, tensor in again.items())


def test_other_labels_or_inputs_share_nothing(tmp_path):
    world = load_parts(small("federation.rounds=1"))[0]
    shard = next(iter(world.sites.values()))
    first, *others = shard
    relabelled = replace(first, labels=dict.fromkeys(first.labels, "No"))
    name, tensor = next(iter(first.inputs.items()))
    retaken = replace(first, inputs={**first.inputs, name: tensor + 1})
    digests = {contents_digest(Dataset([one, *others])) for one in (first, relabelled, retaken)}
    assert len(digests) == 3


def test_a_full_disk_costs_the_cache_and_not_the_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))

    def full(*args, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedkim.run.shared_extraction.save_tensors", full)
    shared = digests(small("federation.rounds=1", "run.share_extraction=true"))
    assert "no room" in caplog.text
    assert shared == digests(small("federation.rounds=1"))
    assert not list((tmp_path / "extraction").glob("*"))
