"""The run that faults happen to: small, real in every part, and loaded once, so that a killed process costs no start-up.

A child forked from the loaded parent is a process of its own: killing it takes its memory, its locks and its half-written files.
"""

import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedkim.failpoints import arm
from fedkim.progress import Progress
from fedkim.recipe import Recipe, load
from fedkim.run.pipeline import environment_of, load_parts
from fedkim.run.rounds import Rounds
from fedkim.store.run_store import RunStore

ROOT = Path(__file__).parents[2]
FAILED = "Traceback, its end: "
"""What a child tells first of an exception: the rest may be cut off, and a process that failed was not killed."""
SETTINGS = (
    "run.workers=1",
    "run.dtype=float32",
    "run.device=cpu",
    "run.snapshot_seconds=0.0",  # keep the round after every step: most to go wrong
    "data.image_patients=40",
    "data.signal_patients=40",
    "data.icu_patients=0",
    'tasks.seen=["lung_opacity","ecg_abnormal"]',
    'tasks.unseen=["pleural_effusion"]',
    "extraction.width=16",
    "injection.batch_size=4",
)


class Telling(Progress):
    """Progress that writes a letter for each thing a judge wants to know: I and i around an injection."""

    def __init__(self, pipe: int):
        self.pipe = pipe

    def line(self, text: str) -> None:
        """Nothing: the letters are enough."""

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Any]:
        """Letters around an injection; counts are of no interest."""
        inside = name.endswith("injection")
        if inside:
            os.write(self.pipe, b"I")
        yield _Silence()
        if inside:
            os.write(self.pipe, b"i")


class _Silence:
    def advance(self, n: int = 1, **fields: Any) -> None:
        """Of no interest."""


@dataclass(frozen=True)
class Subject:
    """A recipe with its parts loaded and the digest of its unbroken run."""

    recipe: Recipe
    parts: tuple[Any, ...]
    digest: str

    def run(self, folder: Path, pipe: int) -> None:
        """Run or resume to the end, in this process; C on the pipe for each commit, then the digest."""
        with RunStore.open(folder, self.recipe, environment=environment_of(self.parts[1], self.recipe)) as store:
            rounds = Rounds(*self.parts, store=store, progress=Telling(pipe))
            for _ in rounds:
                os.write(pipe, b"C")
            os.write(pipe, rounds.digest().encode())

    def finish(self, folder: Path) -> str:
        """Resume to the end in a process of its own and give the digest of the weights, or what went wrong."""
        with child(lambda pipe: self.run(folder, pipe)) as (_, pipe):
            told = everything(pipe)
        return told[-64:].decode(errors="replace") if len(told) >= 64 else told.decode(errors="replace")

    def whole(self, folder: Path) -> bool:
        """Whether the run resumes and ends in the unbroken run's bits."""
        return self.finish(folder) == self.digest


def load_subject(rounds: int, steps: int) -> Subject:
    """Load data and language model, run once without a fault."""
    torch.set_num_threads(1)
    overrides = (*SETTINGS, f"federation.rounds={rounds}", f"injection.steps_per_round={steps}")
    recipe = load(ROOT / "recipes" / "smoke.toml", *overrides)
    subject = Subject(recipe, load_parts(recipe), "")
    with tempfile.TemporaryDirectory() as folder:
        return Subject(recipe, subject.parts, subject.finish(Path(folder) / "run"))


@contextmanager
def child(work: Callable[[int], None], failpoint: str | None = None) -> Iterator[tuple[int, int]]:
    """Fork a process that does ``work(pipe)`` and ends; gives its id and the reading end, and waits for it."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        status = 1
        try:
            arm(failpoint)
            work(writing)
            status = 0
        except BaseException:
            os.write(writing, (FAILED + traceback.format_exc()[-1500:]).encode())
        finally:
            os._exit(status)
    os.close(writing)
    try:
        yield process, reading
    finally:
        os.close(reading)
        os.waitpid(process, 0)


def everything(pipe: int) -> bytes:
    """All that a child tells until it ends."""
    parts = []
    while part := os.read(pipe, 65536):
        parts.append(part)
    return b"".join(parts)


def spread(cases: Sequence[Any], judge: Callable[[Any], Any], jobs: int) -> list[Any]:
    """``judge(case)`` for every case in ``jobs`` forked processes; verdicts in the cases' order, JSON values."""

    def part(number: int) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            os.write(pipe, json.dumps([judge(case) for case in cases[number::jobs]]).encode())

        return work

    verdicts: list[Any] = [None] * len(cases)
    with ExitStack() as stack:
        pipes = [stack.enter_context(child(part(number)))[1] for number in range(jobs)]
        for number, pipe in enumerate(pipes):
            told = everything(pipe).decode()
            if not told.startswith("["):
                raise RuntimeError(told)
            verdicts[number::jobs] = json.loads(told)
    return verdicts
