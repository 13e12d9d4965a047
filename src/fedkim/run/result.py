"""What a result says about its run: settings, versions, time and memory, and what its sites hold."""

import resource
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fedkim import __version__
from fedkim.data.statistics import describe_sites
from fedkim.recipe import Recipe
from fedkim.run.world import World


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


def disclosed(world: World) -> dict[str, Any]:
    """What the sites of this process tell about their patients, small cells hidden; empty where there is but one."""
    if len(world.sites) < 2:
        return {}
    return {site: found.to_dict() for site, found in describe_sites(world.sites).items()}


def holdings(world: World, site: str) -> dict[str, Any]:
    """What a site holds, as counts; of a site elsewhere only its components are known."""
    if site not in world.sites:
        return {"components": list(world.owned[site])}
    shard = world.sites[site]
    return {
        "patients": len({sample.patient for sample in shard}),
        "samples": len(shard),
        "components": list(world.owned[site]),
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
