"""Decoding: the cache gives what the reader gives, rebuilds what changed and nothing else, and survives damage and kills."""

import hashlib
import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_set
import torch

from fedkim.data import cache, contents, decoding
from fedkim.data.hospital.inputs import read_image_input
from fedkim.data.record import Input, Record
from fedkim.errors import FedkimError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoding, "SHARD", 8)


@pytest.fixture
def root(tmp_path):
    tiny_set.write(tmp_path / "set", 40)
    return tmp_path / "set"


def records(root, size=32):
    from fedkim.data.public_sets import Reading

    return tiny_set.read(root, Reading(image_size=size))


def shards():
    return {path: path.stat().st_mtime_ns for path in (cache.cache_folder() / "tensors").glob("decoded-*")}


@pytest.fixture
def reads(monkeypatch):
    """The files that were really read, from now on."""
    read, job = [], decoding._Job.read
    monkeypatch.setattr(decoding._Job, "read", lambda self: read.append(Path(self.path).name) or job(self))
    return read


def test_a_record_gets_what_its_reader_gives_the_first_time_and_every_time(root, reads):
    expected = [tiny_set.read_film(record.inputs[0].path, size=32)["image"] for record in records(root)]
    for _ in range(3):
        for given, tensor in zip(decoding.decode(records(root)), expected, strict=True):
            assert torch.equal(given["image"], tensor)
    assert len(reads) == 40


def test_rules_are_the_readers_whole_package_where_it_is_ours_and_else_its_own_file():
    hospital, plugin = read_image_input.__module__, tiny_set.__name__
    files = [path.name for path in decoding.rule_files([hospital, plugin])]
    assert {"inputs.py", "stays.py", "table.py", "image.py", "series.py"} <= set(files)
    assert "tiny_set.py" in files
    assert "test_decoding.py" not in files


def test_one_changed_file_costs_its_shard_and_no_other(root, reads):
    decoding.decode(records(root))
    before = shards()
    assert len(before) > 4
    (root / "films" / "7.png").write_bytes((root / "films" / "9.png").read_bytes())
    reads.clear()
    tensors = decoding.decode(records(root))
    assert torch.equal(tensors[7]["image"], tensors[9]["image"])
    assert len(set(shards()) - set(before)) == 1
    assert "7.png" in reads
    assert len(reads) < 20


def test_a_new_file_costs_one_shard_too(root, reads):
    decoding.decode(records(root))
    reads.clear()
    more = Record(
        id="x",
        patient="x",
        inputs=(Input(path=root / "new.png", read=tiny_set.read_film, settings={"size": 32}),),
        labels={},
    )
    (root / "new.png").write_bytes((root / "films" / "0.png").read_bytes())
    assert torch.equal(decoding.decode([*records(root), more])[-1]["image"], decoding.decode(records(root))[0]["image"])
    assert len(reads) < 20


def test_a_change_that_leaves_size_and_time_alone_is_seen(root):
    path = root / "films" / "3.png"
    old = time.time() - 3600
    os.utime(path, (old, old))
    decoding.decode(records(root))
    status, content = path.stat(), bytearray(path.read_bytes())
    other = bytes(content[:-30]) + bytes(30)
    with path.open("r+b") as file:  # the same inode, the same size
        file.write(other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert contents.hashes([str(path)])[str(path)] == hashlib.sha256(other).hexdigest()


def test_an_index_that_cannot_be_written_leaves_nothing_of_itself(root, monkeypatch):
    contents._save(str(root), {})
    before = sorted(path.name for path in contents._index(str(root)).parent.iterdir())

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(contents.json, "dump", full)
    contents._save(str(root), {})
    assert sorted(path.name for path in contents._index(str(root)).parent.iterdir()) == before


def test_an_unchanged_file_is_not_read_again(root, monkeypatch):
    monkeypatch.setattr(contents, "SETTLED", -1)
    decoding.decode(records(root))
    monkeypatch.setattr(contents.hashlib, "file_digest", lambda *_: pytest.fail("read a file that is as it was"))
    decoding.decode(records(root))


def test_other_settings_and_another_rule_are_another_entry(root, reads, monkeypatch):
    decoding.decode(records(root))
    assert decoding.decode(records(root, size=48))[0]["image"].shape == (1, 48, 48)
    assert len(reads) == 80
    monkeypatch.setattr(decoding, "_rules", lambda modules: "changed")
    decoding.decode(records(root))
    assert len(reads) == 120


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "another's"])
def test_a_damaged_shard_is_built_again(root, damage):
    good = [
        inputs["image"].clone() for inputs in decoding.decode(records(root))
    ]  # not a view: its file is about to be cut
    victim, *others = sorted(shards())
    content = victim.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    content = {"cut": content[:-100], "flipped": flipped, "emptied": b"", "another's": others[0].read_bytes()}[damage]
    victim.unlink()
    victim.write_bytes(content)
    for before, after in zip(good, decoding.decode(records(root)), strict=True):
        assert torch.equal(before, after["image"])


def test_an_input_of_many_records_is_one_tensor(root):
    one = records(root)[0]
    tensors = decoding.decode([one, one, one])
    assert len({inputs["image"].data_ptr() for inputs in tensors}) == 1


@pytest.mark.slow
def test_worker_processes_write_what_the_caller_would(root, tmp_path, monkeypatch):
    alone = decoding.decode(records(root))
    names = {path.name for path in shards()}
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    monkeypatch.setattr(decoding, "_packed", lambda *_: pytest.fail("decoded in the caller's process"))
    for given, expected in zip(decoding.decode(records(root), workers=2), alone, strict=True):
        assert torch.equal(given["image"], expected["image"])
    assert {path.name for path in shards()} == names


@pytest.mark.slow
def test_a_worker_tells_of_a_bad_file_as_the_caller_would(root, monkeypatch):
    (root / "films" / "5.png").write_bytes(b"no picture")
    monkeypatch.setattr(decoding, "PROCESSES_FROM", 1)
    with pytest.raises(FedkimError, match=r"image .*5\.png, found no picture format, expected PNG"):
        decoding.decode(records(root), workers=2)


def test_a_bad_file_is_told_by_name(root):
    (root / "films" / "5.png").write_bytes(b"no picture")
    with pytest.raises(FedkimError, match=r"image .*5\.png, found no picture format"):
        decoding.decode(records(root), workers=2)


def test_a_missing_file_and_an_unnamed_reader_are_told(root):
    (root / "films" / "5.png").unlink()
    with pytest.raises(FedkimError, match=r"5\.png, found no such file"):
        decoding.decode(records(root))
    given = Input(path=root / "films" / "1.png", read=lambda path: {})
    with pytest.raises(FedkimError, match="a function that stands in a module"):
        decoding.decode([Record(id="x", patient="x", inputs=(given,), labels={})])


def _decoder(root, cache_root, code=""):
    """A process of its own that decodes the set."""
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import tiny_set; from fedkim.data import decoding\n"
        f"from fedkim.data.public_sets import Reading\ndecoding.SHARD = 8\n{code}\n"
        f"decoding.decode(tiny_set.read({str(root)!r}, Reading(image_size=32)))\nprint('done')"
    )
    environment = os.environ | {"FEDKIM_CACHE": str(cache_root)}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_builder_and_two_at_once_leave_a_cache_that_is_whole(root, tmp_path):
    slow = "import time; job = decoding._Job.read; decoding._Job.read = lambda self: time.sleep(0.2) or job(self)"
    killed = _decoder(root, tmp_path / "cache", slow)
    for _ in range(600):
        if shards():
            break
        time.sleep(0.05)
    assert shards()
    killed.send_signal(signals.SIGKILL)
    killed.communicate()
    assert len(shards()) < 8
    both = [_decoder(root, tmp_path / "cache") for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["done", "done"]
    expected = [tiny_set.read_film(record.inputs[0].path, size=32)["image"] for record in records(root)]
    for given, tensor in zip(decoding.decode(records(root)), expected, strict=True):
        assert torch.equal(given["image"], tensor)


def test_what_a_killed_process_left_half_written_is_swept_away_after_a_day(root):
    decoding.decode(records(root))
    folder = cache.cache_folder() / "tensors"
    for name, age in ((".writing-old", 2 * decoding.ABANDONED), (".writing-new", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    decoding.decode(records(root))
    assert not (folder / ".writing-old").exists()
    assert (folder / ".writing-new").exists()
