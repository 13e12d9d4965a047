"""What a result says about its run: settings, versions, time and memory."""

import resource
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fedkim import __version__
from fedkim.recipe import Recipe


class Clock:
    """Seconds of a run, by part."""

    def __init__(self) -> None:
        self._began = self._mark = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to ``name``."""
        now = time.perf_counter()
        self.laps[name] = round(self.laps.get(name, 0.0) + now - self._mark, 1)
        self._mark = now

    def total(self) -> float:
        """Seconds since the beginning."""
        return round(time.perf_counter() - self._began, 1)


def describe_run(recipe: Recipe, *, split: str, revealed: int, environment: Mapping[str, Any]) -> dict[str, Any]:
    """``result["run_info"]`` but for the seconds; ``revealed`` counts the looks at the test split."""
    return {
        "recipe": recipe.run.name,
        "method": recipe.method,
        "backbone": recipe.federation.algorithm,
        "config": recipe.to_toml(),
        "seed": recipe.run.seed,
        "llm": recipe.llm.name,
        "split": split,
        "test_revealed": revealed,
        "draws": recipe.evaluation.draws,
        "peak_memory_bytes": peak_memory_bytes(),
        "environment": dict(environment),
        "versions": _versions(),
    }


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _versions() -> dict[str, str]:
    versions = {"fedkim": __version__}  # of the code that runs; an installation's own record may be older
    for package in ("torch", "transformers", "peft", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions
