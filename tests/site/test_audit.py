import os
import random

import pytest

from fedkim.errors import FedkimError
from fedkim.site.audit import START, AuditLog, _hash, verify
from fedkim.store.files import canonical


@pytest.fixture
def log(tmp_path):
    """Twenty lines, and the head after each."""
    audit = AuditLog(tmp_path / "audit.jsonl")
    heads = [
        audit.append("sent", run="run", round=number, bytes=100 + number, tensors=[{"name": "encoder.image.w", "norm": 1.5}])
        for number in range(1, 21)
    ]  # fmt: skip
    audit.close()
    return audit.path, heads


def test_a_whole_log_verifies_and_counts_what_left(log):
    path, heads = log
    found = verify(path)
    assert (found.entries, found.sent, found.bytes) == (20, 20, sum(range(101, 121)))
    assert found.head == heads[-1]
    assert all(verify(path, head=head) for head in heads)


def test_a_hundred_changed_bytes_are_found(log):
    path, _ = log
    data = path.read_bytes()
    draw = random.Random(0)
    for _ in range(100):
        place = draw.randrange(len(data) - 1)
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :])
        with pytest.raises(FedkimError, match="audit log"):
            verify(path)


def test_every_deleted_doubled_and_moved_line_is_found(log):
    path, _ = log
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(19):
        swapped = [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]
        for spoiled in (
            lines[:number] + lines[number + 1 :],
            [*lines[:number], lines[number], *lines[number:]],
            swapped,
        ):
            path.write_bytes(b"".join(spoiled))
            with pytest.raises(FedkimError, match="broken chain"):
                verify(path)


def test_a_cut_off_end_is_found_by_the_head_that_the_coordinator_kept(log):
    path, heads = log
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:15]))
    assert verify(path).entries == 15
    with pytest.raises(FedkimError, match="cut off"):
        verify(path, head=heads[-1])


def test_a_torn_line_is_mended_and_the_chain_goes_on(log):
    path, heads = log
    path.write_bytes(path.read_bytes() + b'{"seq": 21, "ti')
    with pytest.raises(FedkimError, match="torn"):
        verify(path)
    audit = AuditLog(path)
    assert audit.head == heads[-1]
    audit.append("refused", run="run", round=21)
    audit.close()
    assert verify(path, head=heads[-1]).entries == 21


def test_a_log_that_was_changed_is_not_written_on(log):
    path, _ = log
    path.write_bytes(path.read_bytes().replace(b'"bytes":105', b'"bytes":999'))
    with pytest.raises(FedkimError, match="line 5"):
        AuditLog(path)


def test_one_process_writes(log):
    path, _ = log
    audit = AuditLog(path)
    with pytest.raises(FedkimError, match="at work"):
        AuditLog(path)
    audit.close()


def test_rounds_are_counted_by_run(log):
    path, _ = log
    audit = AuditLog(path)
    audit.append("sent", run="run", round=20, base="abc", bytes=1, tensors=[])
    assert audit.answered("run") == {*((number, "") for number in range(1, 21)), (20, "abc")}
    assert audit.answered("another") == set()
    audit.close()


def test_the_name_of_a_new_log_is_on_the_disk_before_anything_leaves(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("fedkim.site.audit.sync_folder", synced.append)
    audit = AuditLog(tmp_path / "audit.jsonl")
    audit.append("need", run="run", round=1)
    assert synced == [tmp_path]
    audit.append("need", run="run", round=1)
    audit.close()
    assert synced == [tmp_path]


@pytest.mark.parametrize("change", ["moved", "emptied", "longer", "gone"])
def test_a_log_that_was_taken_away_while_the_site_is_at_work_lets_nothing_leave(log, change):
    path, _ = log
    audit = AuditLog(path)
    whole = path.read_bytes()
    path.rename(path.with_suffix(".1"))
    if change == "moved":
        path.write_bytes(whole)  # a copy: another file, which a rotation would cut
    elif change != "gone":
        path.with_suffix(".1").rename(path)
        path.write_bytes(b"" if change == "emptied" else whole + whole.splitlines()[-1] + b"\n")
    for use in (lambda: audit.append("sent", run="run", round=21, bytes=1), lambda: audit.answered("run")):
        with pytest.raises(FedkimError, match="put it back and start the site again") as caught:
            use()
        assert caught.value.code == "E-AUDIT"
    audit.close()


def test_a_log_that_begins_in_the_middle_says_what_lacks(log):
    path, _ = log
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[5:]))
    with pytest.raises(FedkimError, match=r"line 1, found a broken chain.*put its earlier lines before these"):
        verify(path)
    path.write_bytes(b"".join(lines))
    assert verify(path).entries == len(lines)


@pytest.mark.parametrize("odd", [{}, {"event": "sent"}, {"event": "resent", "bytes": "many"}])
def test_a_line_of_another_form_is_a_broken_chain_however_well_it_is_chained(odd, tmp_path):
    entry = {"seq": 1, "previous": START, **odd}
    path = tmp_path / "audit.jsonl"
    path.write_text(canonical({**entry, "hash": _hash(entry)}) + "\n")
    with pytest.raises(FedkimError, match="line 1, found a broken chain"):
        verify(path)
    whole = {**entry, "event": "need"}
    path.write_text(canonical({**whole, "hash": _hash(whole)}) + "\n")
    assert verify(path).entries == 1


def test_a_full_disk_at_the_first_line_is_over_when_there_is_room(tmp_path, monkeypatch):
    audit = AuditLog(tmp_path / "audit.jsonl")
    write = os.write
    for _ in range(2):
        monkeypatch.setattr("fedkim.site.audit.os.write", lambda descriptor, data: write(descriptor, data[:9]))
        with pytest.raises(FedkimError, match="found no room"):
            audit.append("sent", run="run", round=1, bytes=1)
        monkeypatch.undo()
    assert audit.answered("run") == set()
    audit.append("sent", run="run", round=1, bytes=1)
    audit.close()
    assert verify(tmp_path / "audit.jsonl").entries == 1


def test_a_full_disk_leaves_the_chain_whole_and_nothing_is_told_as_written(log, monkeypatch):
    path, heads = log
    audit = AuditLog(path)
    write = os.write
    monkeypatch.setattr("fedkim.site.audit.os.write", lambda descriptor, data: write(descriptor, data[:9]))
    with pytest.raises(
        FedkimError, match=r"audit log .*audit\.jsonl, found no room, [\d,]+ bytes free; make room there"
    ):
        audit.append("sent", run="run", round=21, bytes=1)
    monkeypatch.undo()
    assert verify(path).head == audit.head == heads[-1]
    audit.append("sent", run="run", round=21, bytes=1)
    audit.close()
    assert verify(path).entries == 21
