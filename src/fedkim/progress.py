"""Progress of long work: bars with the time left where somebody watches, plain lines where a file does.

::

    with progress_on(sys.stderr) as progress, progress.stage("rounds", 10) as rounds:
        with progress.stage("injection", 128) as steps:
            steps.advance(loss=0.53)
        rounds.advance()
        progress.line("round 1: development AUROC 0.81")
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol, TextIO

EVERY = 10.0
"""Seconds between two plain lines of the same stage."""


class Stage(Protocol):
    """A countable piece of work."""

    def advance(self, n: int = 1, **fields: Any) -> None:
        """``n`` more are done; ``fields``, such as ``loss=0.53``, stand beside the count."""


class Progress(Protocol):
    """What long work tells whoever started it. Stages may be nested, and advanced from several threads."""

    def stage(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Stage]:
        """A context in which ``total`` pieces of work are done, ``done`` of them by an earlier process."""

    def line(self, text: str) -> None:
        """One line that stays."""


class Silent:
    """Progress that nobody wants to see; the default in Python."""

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Stage]:
        """See :class:`Progress`."""
        yield _Counter(lambda n, fields: None)

    def line(self, text: str) -> None:
        """See :class:`Progress`."""


class Plain:
    """Lines for logs: where a stage stands every ten seconds, and how long it took in all."""

    def __init__(self, stream: TextIO, every: float = EVERY, clock: Callable[[], float] = time.monotonic):
        self._stream, self._every, self._clock = stream, every, clock
        self._writing = threading.Lock()

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Stage]:
        """See :class:`Progress`."""
        begin, before = self._clock(), done
        told = begin

        def advance(n: int, fields: dict[str, Any]) -> None:
            nonlocal done, told
            with self._writing:
                done += n
                now = self._clock()
                if before < done < total and now - told >= self._every:
                    told = now
                    left = (now - begin) / (done - before) * (total - done)
                    self._write(f"{name} {done}/{total}{_shown(fields)}, {_duration(left)} left")

        yield _Counter(advance)
        if self._clock() - begin >= self._every:
            self.line(f"{name} {done}/{total} in {_duration(self._clock() - begin)}")

    def line(self, text: str) -> None:
        """See :class:`Progress`."""
        with self._writing:
            self._write(text)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a log that can't be written is no reason to lose the work
            self._stream.write(text + "\n")
            self._stream.flush()


class Bars:
    """Bars in a terminal, one per open stage, with the time left."""

    def __init__(self, bars: Any):
        self._bars = bars

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Stage]:
        """See :class:`Progress`."""
        bar = self._bars.add_task(name, total=total, completed=done, fields="")

        def advance(n: int, fields: dict[str, Any]) -> None:
            shown = {"fields": _shown(fields)[2:]} if fields else {}
            self._bars.update(bar, advance=n, **shown)

        try:
            yield _Counter(advance)
        finally:
            self._bars.remove_task(bar)

    def line(self, text: str) -> None:
        """See :class:`Progress`."""
        self._bars.console.print(text, highlight=False, markup=False)


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Progress]:
    """Bars if ``stream`` is a terminal, plain lines if it is not."""
    if not stream.isatty():
        yield Plain(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fields]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with RichProgress(*columns, console=Console(file=stream), transient=True) as bars:
        yield Bars(bars)


class _Counter:
    def __init__(self, advance: Callable[[int, dict[str, Any]], None]):
        self._advance = advance

    def advance(self, n: int = 1, **fields: Any) -> None:
        self._advance(n, fields)


def _shown(fields: dict[str, Any]) -> str:
    parts = (f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items())
    return "".join(f", {part}" for part in parts)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"
