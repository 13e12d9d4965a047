import resource

import pytest
import torch
from rounds_of_updates import row_of, state_of, update, updates_of

from fedkim.aggregation import ALGORITHMS, Spool, make_algorithm
from fedkim.errors import FedkimError
from fedkim.recipe import Federation
from fedkim.state import State


def rows(sites=7, size=70_001):
    return torch.randn(sites, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.startswith("fedprox")])
def test_from_disk_every_rule_gives_the_same_bits_as_from_memory(name, tmp_path):
    algorithm, updates = make_algorithm(Federation(algorithm=name)), updates_of(rows(), [3, 1, 4, 1, 5, 9, 2])
    before = state_of(torch.zeros(70_001))
    mapped = list(Spool(tmp_path / "spool").through(updates))
    from_memory, from_disk = (algorithm.aggregate(before, given, State())[0] for given in (updates, mapped))
    assert from_disk.digest() == from_memory.digest()


def test_what_is_read_back_is_what_was_put_down_and_is_mapped_not_copied(tmp_path):
    (sent,) = updates_of(rows(1, 5000))
    spool = Spool(tmp_path)
    mapped = spool.put(sent)
    assert mapped.state.digest() == sent.state.digest()
    assert (mapped.site, mapped.num_examples) == (sent.site, sent.num_examples)
    path = tmp_path / "site-00.safetensors"
    maps = [line for line in open("/proc/self/maps") if str(path) in line]  # noqa: SIM115
    assert maps, "the tensors don't lie in the file"


def test_a_second_update_of_a_site_leaves_the_first_as_it_was(tmp_path):
    spool = Spool(tmp_path)
    first = spool.put(update("a", {"encoder.image.w": torch.zeros(9)}))
    second = spool.put(update("a", {"encoder.image.w": torch.ones(9)}))
    assert first.state["encoder.image.w"].tolist() == [0.0] * 9
    assert second.state["encoder.image.w"].tolist() == [1.0] * 9


def test_a_new_round_begins_with_an_empty_folder_and_what_is_mapped_outlives_it(tmp_path):
    mapped = Spool(tmp_path).put(updates_of(rows(1, 10))[0])
    Spool(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(row_of(mapped.state), rows(1, 10)[0])


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "", "a" * 65, "1st", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(name, tmp_path):
    spool = Spool(tmp_path / "spool")
    with pytest.raises(FedkimError, match="a site's name"):
        spool.put(update(name, {"encoder.image.w": torch.zeros(2)}))
    assert [path.name for path in tmp_path.rglob("*")] == ["spool"]


def test_a_disk_without_room_is_told_in_one_line_and_leaves_nothing_half_written(tmp_path):
    spool, sent = Spool(tmp_path), update("a", {"encoder.image.w": torch.zeros(50_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FedkimError, match=r"can't be written \(File too large\); free 200,000 bytes a site there"):
            spool.put(sent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_no_lack_of_room(tmp_path):
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    with pytest.raises(FedkimError, match="No such file or directory") as caught:
        spool.put(update("a", {"encoder.image.w": torch.zeros(2)}))
    assert str(caught.value).endswith("; check the folder; the same command resumes")


def test_after_its_round_nothing_of_a_site_is_left_on_the_disk(tmp_path):
    updates = updates_of(rows(3, 10))
    mapped = list(Spool(tmp_path).through(updates))
    assert list(tmp_path.iterdir()) == []
    assert [update.state.digest() for update in mapped] == [update.state.digest() for update in updates]


def test_its_folder_is_its_owners_alone_and_one_that_stood_open_is_closed(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    for folder in (tmp_path / "new" / "spool", tmp_path / "open"):
        Spool(folder)
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FedkimError, match=r"spool .*file, found File exists; use a folder of this account's own"):
        Spool(tmp_path / "file")
