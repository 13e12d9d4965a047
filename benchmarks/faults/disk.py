"""Disks that fill up, and disks that lose what was not flushed when the power goes."""

import json
import os
import random
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from benchmarks.faults.subject import Subject, child, everything, spread
from fedkim.failpoints import POINTS
from fedkim.store.run_store import RunStore

WRITES = tuple(point for point in POINTS if point.startswith(("tensors.", "manifest.", "halfway.")))


def full(subject: Subject, *, tries: int, jobs: int) -> int:
    """No room at each step of each write, in another round each time; every sixth by the system's limit on a file's size.

    Returns:
        How often the process said so in one line, left the rounds before whole, and the run then ended in the same bits.
    """

    largest = _largest_file(subject)

    def judge(number: int) -> bool:
        limited = number % 6 == 5
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            step = number - number // 6
            # the last steps come after the rename: there the error is told although the file stands
            point = f"{WRITES[step % len(WRITES)]}@{1 + step % subject.recipe.federation.rounds}:full"

            def work(pipe: int) -> None:
                if limited:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    bytes_ = largest * (number + 1) // (tries + 6)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
                subject.run(run, pipe)

            with child(work, None if limited else point) as (_, pipe):
                told = everything(pipe)
            clear = (b"no room" in told or b"can't be written" in told) and not list(run.glob("rounds/.tmp-*"))
            before = told.count(b"C")
            latest = RunStore(run).latest()
            kept = latest.round if latest else 0
            return clear and kept >= before and subject.whole(run)

    return sum(spread(range(tries), judge, jobs))


def _largest_file(subject: Subject) -> int:
    """Bytes of the largest file of a committed round."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subject.finish(run)
        return max(path.stat().st_size for path in run.glob("rounds/*"))


def unflushed(subject: Subject, *, replays: int, jobs: int, seed: int = 0) -> int:
    """Replay a run on a disk that keeps only what was flushed, cut at random moments.

    Of what wasn't flushed any part may have reached the disk: of the pending renames and deletions a random half is kept.
    Every round whose commit had returned must be there, and the run must end in the unbroken run's bits.
    """
    with TemporaryDirectory() as folder:
        with child(lambda pipe: _record(subject, Path(folder), replays, seed, pipe)) as (_, pipe):
            told = everything(pipe).decode()
        if not told.startswith("["):
            raise RuntimeError(told)
        committed = json.loads(told)

        def judge(number: int) -> bool:
            run = Path(folder) / f"replay-{number}" / "run"
            if not run.exists():
                return committed[number] == 0 and subject.whole(run)
            latest = RunStore(run).latest() if (run / "recipe.json").exists() else None
            kept = latest.round if latest else 0
            return kept >= committed[number] and subject.whole(run)

        return sum(spread(range(replays), judge, jobs))


def _record(subject: Subject, folder: Path, replays: int, seed: int, pipe: int) -> None:
    """Run once while noting what is flushed, renamed and deleted; then lay out the disks of the replays."""
    run = folder / "run"
    notes: list[tuple[Any, ...]] = []
    reading, writing = os.pipe()
    told = 0

    def note_commits() -> None:
        nonlocal told
        os.set_blocking(reading, False)
        try:
            for letter in os.read(reading, 65536):
                if letter == ord("C"):
                    told += 1
                    notes.append(("committed", told))
        except BlockingIOError:
            pass

    with _noted(notes, note_commits):
        subject.run(run, writing)
    note_commits()
    draw = random.Random(seed)
    cuts = [draw.randrange(1, len(notes)) for _ in range(replays)]
    committed = []
    for number, cut in enumerate(cuts):
        committed.append(max((note[1] for note in notes[:cut] if note[0] == "committed"), default=0))
        _lay_out(notes[:cut], run, folder / f"replay-{number}" / "run", random.Random(f"{seed}-{number}"))
    os.write(pipe, json.dumps(committed).encode())


@contextmanager
def _noted(notes: list[tuple[Any, ...]], before_each: Any) -> Iterator[None]:
    """The system's calls, noted as they succeed."""
    real = os.fsync, os.replace, os.unlink

    def fsync(descriptor: int) -> None:
        before_each()
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        real[0](descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            notes.append(("folder", path))
        else:
            notes.append(("content", path, Path(path).read_bytes()))

    def replace(source: Any, target: Any) -> None:
        before_each()
        real[1](source, target)
        notes.append(("rename", str(source), str(target)))

    def unlink(path: Any, **more: Any) -> None:
        before_each()
        real[2](path, **more)
        notes.append(("delete", str(path)))

    with mock.patch.multiple(os, fsync=fsync, replace=replace, unlink=unlink):
        yield


def _lay_out(notes: list[tuple[Any, ...]], run: Path, target: Path, draw: random.Random) -> None:
    """The disk after a loss of power behind the last note."""
    contents: dict[str, bytes] = {}  # of files under the name they have now, as far as they were flushed
    disk: dict[str, bytes] = {}  # names that last
    pending: list[tuple[Any, ...]] = []

    def apply(change: tuple[Any, ...]) -> None:
        if change[0] == "rename":
            disk.pop(change[1], None)
            disk[change[2]] = change[3]
        else:
            disk.pop(change[1], None)

    for kind, *facts in notes:
        if kind == "content":
            contents[facts[0]] = facts[1]
        elif kind == "rename":
            source, to = facts
            # what was renamed before it was flushed may come out empty
            contents[to] = contents.pop(source, b"")
            pending.append(("rename", source, to, contents[to]))
        elif kind == "delete":
            contents.pop(facts[0], None)
            pending.append(("delete", facts[0]))
        elif kind == "folder":
            for change in [
                change for change in pending if str(Path(change[-1 if change[0] == "delete" else 2]).parent) == facts[0]
            ]:
                apply(change)
                pending.remove(change)
    for change in pending:
        if draw.random() < 0.5:
            apply(change)
    for path, data in disk.items():
        copy = target / Path(path).relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
