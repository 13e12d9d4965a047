"""Decoding: files to canonical tensors, once; every later pass maps them from the cache.

The inputs of a data set are dealt into *shards*, each a file of the tensor cache. Which shard an input belongs to follows from
its file's name alone, so a file that changes, appears or goes costs its own shard and no other. A shard's key covers the
bytes of its files, the readers' settings, the source of the readers and of all modalities: what has changed in any of these is
decoded anew, what is damaged is thrown away and decoded anew.

Large sets are decoded by worker processes (``python -m fedkim.data.decoding``): each gets the work as a line of JSON, writes
the shard into the cache by itself and answers with a line. Nothing is pickled, a worker needs no ``__main__`` guard in the
caller's script, and one that outlives its caller ends at the next line it waits for.
"""

import hashlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedkim.data import cache
from fedkim.data.contents import hashes
from fedkim.data.record import Input, Record
from fedkim.errors import FedkimError
from fedkim.parallel import ordered_map
from fedkim.progress import Progress, Silent

SHARD = 256
"""Inputs in a shard, about."""
PROCESSES_FROM = 4000
"""Inputs from which starting worker processes (seconds each) pays; below, threads decode. Threads do as well where a format's
decoder leaves the interpreter alone (PNG, JPEG); readers in Python (DICOM, WFDB, tables) need processes."""
ABANDONED = 24 * 3600
"""Seconds after which a half-written file of a killed process is swept away."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One input as plain values: what goes to a worker, and into the key."""

    reader: str
    """``module:function``."""
    path: str
    settings: str
    """JSON."""
    companions: tuple[str, ...]

    name: str
    """What the shard is chosen by, and what stands in the key beside the contents: no folder, so that a copy is known."""

    def read(self) -> dict[str, Tensor]:
        """The input's tensors by modality."""
        module, _, function = self.reader.partition(":")
        reader: Callable[..., Mapping[str, Tensor]] = getattr(importlib.import_module(module), function)
        return dict(reader(Path(self.path), **json.loads(self.settings)))


def decode(
    records: Sequence[Record], *, workers: int = 1, progress: Progress | None = None, name: str = "inputs"
) -> list[dict[str, Tensor]]:
    """The inputs of each record, in the records' order: float32 tensors by modality, views into memory-mapped files.

    An input that several records share (a picture with ten questions) is decoded once and is one tensor.

    Args:
        records: any records; readers must be functions of a module, settings plain values that JSON holds.
        workers: threads, or processes from :data:`PROCESSES_FROM` inputs on.
        progress: told of inputs decoded.
        name: a word for the cache's file names.

    Raises:
        FedkimError: a file that can't be read or isn't what it should be (the first of its shard), or a reader that
            can't be found by name.
    """
    jobs: dict[_Job, None] = {}
    wanted = [[_job(given) for given in record.inputs] for record in records]
    for row in wanted:
        jobs.update(dict.fromkeys(row))
    tensors = _decoded(list(jobs), workers=workers, progress=progress or Silent(), name=name)
    return [{modality: t for job in row for modality, t in tensors[job].items()} for row in wanted]


def read_each(
    records: Sequence[Record], *, workers: int = 1, progress: Progress | None = None, name: str = "inputs"
) -> list[tuple[Path, FedkimError] | None]:
    """For each record its first input that can't be read, and why. Every input is opened, nothing is kept.

    :func:`decode` ends at the first bad file of a shard; this finds them all.
    """
    wanted = [[_job(given) for given in record.inputs] for record in records]
    jobs = list(dict.fromkeys(job for row in wanted for job in row))
    errors: dict[_Job, FedkimError | None] = {}
    with (progress or Silent()).stage(f"reading {name} one by one", len(jobs)) as stage:
        for job, error in zip(jobs, ordered_map(_failure, jobs, workers)):
            errors[job] = error
            stage.advance(1)
    return [next(((Path(job.path), error) for job in row if (error := errors[job])), None) for row in wanted]


def _failure(job: _Job) -> FedkimError | None:
    try:
        job.read()
    except FedkimError as error:
        return error
    return None


def _job(given: Input) -> _Job:
    reader = f"{given.read.__module__}:{given.read.__qualname__}"
    found: Any = sys.modules.get(given.read.__module__)
    found = getattr(found, given.read.__qualname__, None)
    if found is not given.read or given.read.__module__ == "__main__":
        remedy = "give a function that stands in a module by its own name"
        raise FedkimError(f"reader {reader}", found="no function that a worker could import", remedy=remedy)
    try:
        settings = json.dumps(dict(given.settings), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise FedkimError(f"reader {reader}: settings", expected="plain values that JSON holds") from None
    return _Job(
        reader=reader,
        path=str(given.path),
        settings=settings,
        companions=tuple(map(str, given.companions)),
        name=f"{reader} {given.path.name} {settings}",
    )


def _decoded(jobs: list[_Job], *, workers: int, progress: Progress, name: str) -> dict[_Job, dict[str, Tensor]]:
    _sweep()
    content = hashes(path for job in jobs for path in (job.path, *job.companions))
    rules = _rules({job.reader.partition(":")[0] for job in jobs})
    shards = [(_key(shard, content, rules), shard) for shard in _dealt(jobs)]
    label = f"decoded-{name}"
    tensors: dict[_Job, dict[str, Tensor]] = {}
    missing = []
    for key, shard in shards:
        entry = cache.find(label, key)
        if entry is None:
            missing.append((key, shard))
        else:
            tensors |= _unpacked(entry, shard)
    if not missing:
        return tensors
    total = sum(len(shard) for _, shard in missing)
    processes = min(workers, len(missing)) if total >= PROCESSES_FROM else 1
    with progress.stage(f"decoding {name}", total) as stage:
        built = _by_processes(missing, label, processes) if processes > 1 else None
        for key, shard in missing:
            if built is not None:
                next(built)
            threads = workers if built is None else 1
            entry = cache.cached(label, key, lambda shard=shard, threads=threads: _packed(shard, threads))  # type: ignore[misc]
            tensors |= _unpacked(entry, shard)
            stage.advance(len(shard))
    return tensors


def _dealt(jobs: list[_Job]) -> list[list[_Job]]:
    """Shards of about :data:`SHARD` inputs. The number of shards is a power of two, so it seldom changes."""
    number = 1
    while number * SHARD < len(jobs):
        number *= 2
    shards: list[list[_Job]] = [[] for _ in range(number)]
    for job in sorted(jobs, key=lambda job: (job.name, job.path)):
        shards[int(hashlib.sha256(job.name.encode()).hexdigest()[:8], 16) % number].append(job)
    return [shard for shard in shards if shard]


def _key(shard: list[_Job], content: Mapping[str, str], rules: str) -> str:
    parts = [[job.name, *(content[path] for path in (job.path, *job.companions))] for job in shard]
    return hashlib.sha256(json.dumps([rules, parts]).encode()).hexdigest()


def _rules(modules: Iterable[str]) -> str:
    """sha256 over the source of the rules: nobody has to remember to raise a version."""
    return cache.content_key(rule_files(modules))


def rule_files(modules: Iterable[str]) -> list[Path]:
    """The source of the readers, of what stands beside ours, and of every modality."""
    import fedkim.modalities

    files: set[str] = set()
    for module in modules:
        file = Path(str(sys.modules[module].__file__))
        files |= {str(path) for path in (file.parent.glob("*.py") if module.startswith("fedkim.") else [file])}
    files |= {str(path) for path in Path(str(fedkim.modalities.__file__)).parent.glob("*.py")}
    return sorted(map(Path, files), key=lambda path: (path.name, str(path)))


# a shard and its entry ------------------------------------------------------------------------------------------------


def _packed(shard: Sequence[_Job], threads: int = 1) -> cache.Entry:
    """Tensors of one modality and shape stacked; the facts say which row is whose."""
    rows: list[dict[str, list[Any]]] = []
    stacks: dict[str, list[Tensor]] = {}
    for tensors in ordered_map(_Job.read, shard, threads):
        row = {}
        for modality, tensor in tensors.items():
            stack = f"{modality} {'x'.join(map(str, tensor.shape))}"
            stacks.setdefault(stack, []).append(tensor.to(torch.float32))
            row[modality] = [stack, len(stacks[stack]) - 1]
        rows.append(row)
    return cache.Entry(tensors={name: torch.stack(stack) for name, stack in stacks.items()}, facts=rows)


def _unpacked(entry: cache.Entry, shard: Sequence[_Job]) -> dict[_Job, dict[str, Tensor]]:
    stacks = {name: stack.unbind(0) for name, stack in entry.tensors.items()}
    return {
        job: {modality: stacks[stack][row] for modality, (stack, row) in places.items()}
        for job, places in zip(shard, entry.facts, strict=True)
    }


def _sweep() -> None:
    """Remove what killed processes left half-written, long ago."""
    for file in (cache.cache_folder() / "tensors").glob(".writing-*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()


# worker processes -----------------------------------------------------------------------------------------------------


def _by_processes(missing: list[tuple[str, list[_Job]]], label: str, processes: int) -> Iterator[None]:
    """Yield once for each shard in order, when a worker has put it into the cache."""
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    from fedkim.data.workers import Worker

    idle: SimpleQueue[Worker] = SimpleQueue()
    crew = [Worker(__name__) for _ in range(processes)]

    def build(work: tuple[str, list[_Job]]) -> None:
        key, shard = work
        worker = idle.get()
        try:
            worker.ask({"label": label, "key": key, "shard": [asdict(job) for job in shard]})
        finally:
            idle.put(worker)

    for worker in crew:
        idle.put(worker)
    pool = ThreadPoolExecutor(processes, thread_name_prefix="fedkim-decoding")
    try:
        yield from pool.map(build, missing)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in crew:
            worker.close()


def _serve(request: Mapping[str, Any]) -> None:
    shard = [_Job(**job | {"companions": tuple(job["companions"])}) for job in request["shard"]]
    cache.cached(request["label"], request["key"], lambda: _packed(shard))


if __name__ == "__main__":
    from fedkim.data.workers import serve

    serve(_serve)
