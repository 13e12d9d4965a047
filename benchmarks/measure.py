"""Timing by turns, and verdicts.

A shared machine is slower or faster from one second to the next, so no time is compared with a time from another
minute: in each round every variant runs once, the order rotating, and a figure is the median over rounds of the ratio
of two times of the same round. On a CPU the clock counts this process's CPU seconds, on a GPU finished kernels.
"""

import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LEAST_PAIRS = 15
VERDICTS = {"meets": "meet their target", "within noise": "within noise", "falls short": "fall short"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the shell says."""

    device: str = "cpu"
    dtype: str = "fp32"
    dim: int | None = None
    rounds: int = LEAST_PAIRS
    batch: int = 4
    tokens: int | None = None
    rank: int = 8
    experts: int = 12
    dropout: float = 0.0
    llm: str = ""
    plot: str = ""
    only: tuple[str, ...] = ()

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    def wants(self, part: str) -> bool:
        return not self.only or part in self.only


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One ratio, its quartiles over the rounds, and what it should have been."""

    name: str
    median: float
    low: float
    high: float
    rounds: int
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """By the interquartile range: all of it on the right side, around the target, or all on the wrong side."""
        if self.target is None:
            return ""
        if self.low == self.high:
            return (
                "meets"
                if (self.median >= self.target) == self.at_least or self.median == self.target
                else "falls short"
            )
        if self.low <= self.target <= self.high:
            return "within noise"
        return "meets" if (self.low > self.target) == self.at_least else "falls short"

    def line(self) -> str:
        target = "" if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g}"
        return f"{self.name:<58} {self.median:>8.3f}  [{self.low:.3f}, {self.high:.3f}]  {target:>8}  {self.verdict:<13}{self.note}"


def now(device: str) -> float:
    """Seconds on the clock that suits the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def take_turns(
    variants: Mapping[str, Callable[[], object]], *, device: str, rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each variant in each round; a variant's first runs are thrown away."""
    for run in variants.values():
        for _ in range(warm_up):
            run()
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = now(device)
            variants[name]()
            seconds[name].append(now(device) - start)
    return seconds


def ratio(
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    *,
    target: float | None = None,
    at_least: bool = False,
    scale: float = 1.0,
    note: str = "",
) -> Figure:
    """The figure for ``above / below · scale``, paired round by round."""
    pairs = [scale * first / second for first, second in zip(above, below, strict=True)]
    low, median, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else (pairs[0],) * 3
    if len(pairs) < LEAST_PAIRS:
        note = f"{note} only {len(pairs)} pairs"
    return Figure(
        name=name, median=median, low=low, high=high, rounds=len(pairs), target=target, at_least=at_least, note=note
    )


def exact(name: str, value: float, *, target: float | None = None, at_least: bool = False, note: str = "") -> Figure:
    """A figure that is counted, not timed."""
    return Figure(name=name, median=value, low=value, high=value, rounds=1, target=target, at_least=at_least, note=note)


def kept_bytes(run: Callable[[], object], parameters: Sequence[torch.Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once, parameters not counted."""
    owned = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # an address may be reused once its tensor is gone

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(kept.values())


@dataclass
class Report:
    """Figures as they come, printed at once and kept for a file."""

    settings: Settings
    figures: list[Figure] = field(default_factory=list)
    times: dict[str, dict[str, float]] = field(default_factory=dict)

    def title(self, text: str) -> None:
        print(f"\n{text}")

    def add(self, *figures: Figure) -> None:
        for figure in figures:
            print(figure.line(), flush=True)
            self.figures.append(figure)

    def remember(self, part: str, seconds: Mapping[str, Sequence[float]]) -> None:
        """Keep and print the median milliseconds, for orientation only."""
        medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
        self.times[part] = medians
        print("  median ms: " + "  ".join(f"{name} {value:.1f}" for name, value in medians.items()))

    def summary(self) -> None:
        """Every target once more beside its figure and verdict, and how many of each there are."""
        judged = [figure for figure in self.figures if figure.target is not None]
        if not judged:
            return
        self.title("targets")
        for figure in judged:
            print(figure.line())
        counts = Counter(figure.verdict for figure in judged)
        print(", ".join(f"{counts[verdict]} of {len(judged)} {words}" for verdict, words in VERDICTS.items()))

    def write(self, path: str | Path) -> None:
        record: dict[str, Any] = {
            "settings": asdict(self.settings),
            "environment": environment(self.settings.device),
            "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures],
            "median_milliseconds": self.times,
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def environment(device: str) -> dict[str, Any]:
    """What a reader needs to place the figures."""
    import peft
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
    }
