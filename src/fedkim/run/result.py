"""What a result says about its run: settings, versions, time and memory; and the files it goes to."""

import json
import resource
import time
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedkim import __version__
from fedkim.data.registry import FOLDED
from fedkim.errors import FedkimError
from fedkim.evaluation.suppression import suppressed_result
from fedkim.recipe import Recipe, from_dict
from fedkim.store.files import plain, pretty, write_text


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


def result_path(folder: Path, recipe: Recipe, result: Mapping[str, Any]) -> Path:
    """Where a result is kept for good: ``<folder>/<recipe>/<method>--<backbone>--seed<k>.json``.

    Where a source has folds, anything but all five pooled says in its name which they are.
    """
    folds = result["run_info"].get("folds", [recipe.data.fold])
    whole = recipe.data.source not in FOLDED or len(folds) == 5
    part = "" if whole else "--folds" + "".join(f"-{fold}" for fold in folds)
    name = f"{recipe.method}--{recipe.federation.algorithm}--seed{recipe.run.seed}{part}.json"
    return folder / recipe.run.name / name


def keep_result(folder: Path, recipe: Recipe, result: Mapping[str, Any], *, name: str = "") -> Path:
    """Write a result (aggregates only) to its place below ``folder``, or as ``<folder>/<recipe>/<name>.json``.

    Of a hospital's own patients nothing is kept that describes fewer than ten (``evaluation.suppression``).

    Raises:
        FedkimError: see :func:`require_place`.
    """
    if recipe.data.source == "hospital":
        result = suppressed_result(result)
    path = folder / recipe.run.name / f"{name}.json" if name else result_path(folder, recipe, result)
    require_place(path, recipe, split=result["run_info"].get("split", ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, pretty(plain(result)))
    return path


def require_place(path: Path, recipe: Recipe, *, split: str) -> None:
    """Refuse to write over what isn't this recipe's: a name tells method, backbone and seed apart, and no other setting.

    Raises:
        FedkimError: another recipe's result stands there, one of other patients' split, or something else.
    """
    remedy = "give the run a name of its own (--set run.name=…), keep it elsewhere, or delete that file"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["run_info"]
        config = tomllib.loads(kept["config"])
    except FileNotFoundError:
        return
    except OSError as error:
        raise FedkimError(f"result {path}", found=error.strerror or "unreadable", remedy=remedy) from None
    except (ValueError, KeyError, TypeError):
        raise FedkimError(f"result {path}", found="a file that is no result", remedy=remedy) from None
    try:
        same = from_dict(config).digest() == recipe.digest()
    except FedkimError:
        raise FedkimError(f"result {path}", found="the result of another version of fedkim", remedy=remedy) from None
    if not same:
        raise FedkimError(f"result {path}", found="the result of another recipe", remedy=remedy)
    if split and kept.get("split") != split:
        found = f"scores of the {kept.get('split')} split"
        raise FedkimError(f"result {path}", found=found, expected=f"those of the {split} split", remedy=remedy)


def write_report_beside(folder: Path, result: dict[str, Any]) -> None:
    """``report.html`` in the run's folder."""
    from fedkim.report import write_report

    write_report(result, folder / "report.html")


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
