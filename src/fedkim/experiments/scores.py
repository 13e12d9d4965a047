"""Scores of a matrix: each cell's kept results as a few numbers, by method, variation, backbone and seed."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from fedkim.errors import FedkimError
from fedkim.evaluation.blindness import worst_blindness
from fedkim.experiments.ground import ground, require_same_ground
from fedkim.experiments.keeping import SUFFIX, read_kept, recomputed
from fedkim.experiments.matrix import Cell
from fedkim.experiments.methods import LOCAL, METHODS
from fedkim.recipe import import_plugins

CELLS = "*--*--seed*.json"
"""Files of a matrix's cells."""

SUMMARIES = {
    "seen": "seen tasks, AUROC",
    "unseen": "unseen classification, AUROC",
    "generation": "unseen free text, exact match",
}
"""Means over a cell's tasks, on a scale of 0 to 100 points."""


def processor(run_info: Mapping[str, Any]) -> str:
    """The kind of processor of a run as torch names it, such as ``AVX2``: sums of other kinds have other last bits."""
    return str(run_info.get("environment", {}).get("instructions", "another"))


@dataclass(frozen=True, kw_only=True)
class CellScores:
    """One cell, read back."""

    method: str
    variation: str
    backbone: str
    seed: int
    record: Mapping[str, Any]
    """The kept result."""
    name: str = ""
    """Of its files, without an ending."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The tables of the recipe that it was run with."""
        return tomllib.loads(self.record["run_info"]["config"])

    def tasks(self, which: str) -> list[str]:
        """Names of the tasks of a summary: ``seen``, ``unseen`` (classification) or ``generation``."""
        return [
            name
            for name, entry in self.record["metrics"].items()
            if (entry["kind"] == "text") == (which == "generation") and entry["seen"] == (which == "seen")
        ]

    def points(self, task: str, row: str = "injected", metric: str = "", *, tuned: bool = False) -> float | None:
        """A task's score in points (0 to 100), None where it doesn't exist.

        The primary one, or a named one, which may be at the threshold that development patients gave.
        """
        entry = self.record["metrics"].get(task)
        if entry is None or row not in entry["rows"]:
            return None
        found = entry["rows"][row]
        named = found.get("tuned", {}).get("metrics", {}) if tuned else found["metrics"]
        score = named.get(metric, {}) if metric else found["primary"]
        value = score.get("value")
        return None if value is None else 100 * float(value)

    def mean(self, which: str, row: str = "injected", metric: str = "", *, tasks: Sequence[str] = ()) -> float | None:
        """The mean over a summary's tasks, or those of them that are named; None if one of them has no score."""
        chosen = [task for task in self.tasks(which) if task in tasks or not tasks]
        return whole_mean(self.points(task, row, metric) for task in chosen)

    def over_majority(self, row: str, which: str = "") -> float | None:
        """Mean over unseen tasks of accuracy (exact match) less the majority's (by template), in points.

        Over all of them, or those of one summary: ``unseen`` (classification) or ``generation``.
        """
        gains: list[float | None] = []
        for part, metric, reference in (
            ("unseen", "accuracy", "majority"),
            ("generation", "exact_match", "majority_per_template"),
        ):
            for task in self.tasks(part) if which in ("", part) else ():
                value, majority = self.points(task, row, metric), self.points(task, reference, metric)
                gains.append(None if value is None or majority is None else value - majority)
        return whole_mean(gains)

    def text_part(self, part: str, metric: str) -> float | None:
        """Mean over free-text tasks of a score of their ``closed`` (yes or no) or ``open`` questions, in points."""
        rows = [self.record["metrics"][task]["rows"]["injected"] for task in self.tasks("generation")]
        values = [row.get(part, {}).get("metrics", {}).get(metric, {}).get("value") for row in rows]
        return whole_mean(None if value is None else 100 * value for value in values)

    def blindness(self, task: str, asked: Sequence[str] | None = None) -> tuple[str, float] | None:
        """The seen question (of ``asked``, if given) that an unseen one is answered most alike, and the correlation."""
        found = self.record["metrics"][task].get("blindness", {})
        return worst_blindness({name: one for name, one in found.items() if asked is None or name in asked})

    @property
    def injection_losses(self) -> dict[int, float]:
        """Mean loss of the injection by round, of the rounds that had one."""
        rounds = self.record["train_info"]["rounds"]
        return {
            int(entry["round"]): entry["injection"]["loss"][0]
            for entry in rounds
            if entry.get("injection", {}).get("loss")
        }

    @property
    def plugins(self) -> list[str]:
        """Modules that its recipe names."""
        return list(self.settings.get("run", {}).get("plugins", ()))

    @property
    def refused(self) -> int:
        """Updates that the gate refused, in all rounds."""
        return sum(len(entry.get("rejected", {})) for entry in self.record["train_info"]["rounds"])

    @property
    def bytes_sent(self) -> int:
        """Of all sites in all rounds; none where somebody stands in for the sites."""
        if self.settings.get("federation", {}).get("trainers", "sites") != "sites":
            return 0
        rounds = self.record["train_info"]["rounds"]
        return sum(site["bytes_sent"] for entry in rounds for site in entry["sites"].values())


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All cells of a matrix."""

    name: str
    synthetic: bool
    cells: tuple[CellScores, ...]

    @property
    def evaluated(self) -> bool:
        """Whether these are scores of test patients."""
        return all(cell.record["run_info"]["split"] == "test" for cell in self.cells)

    def group(self, method: str, *, variation: str = "", backbone: str = "fedavg") -> dict[int, list[CellScores]]:
        """Cells by seed; ``local-only`` gives a seed its sites' cells, and leaves out a seed that lacks one that another has."""
        methods = {cell.method for cell in self.cells} & set(LOCAL) if method == "local-only" else {method}
        found: dict[int, list[CellScores]] = {}
        for cell in self.cells:
            if cell.method in methods and (cell.variation, cell.backbone) == (variation, backbone):
                found.setdefault(cell.seed, []).append(cell)
        return {seed: cells for seed, cells in sorted(found.items()) if len(cells) == len(methods)}

    def by_seed(
        self,
        method: str,
        which: str,
        *,
        row: str = "injected",
        variation: str = "",
        backbone: str = "fedavg",
        tasks: Sequence[str] = (),
    ) -> dict[int, float]:
        """A summary's points by seed, where they exist; ``all`` is the mean of seen and unseen classification.

        ``tasks``: the mean over these of the summary's tasks alone.
        """
        names = ("seen", "unseen") if which == "all" else (which,)
        groups = self.group(method, variation=variation, backbone=backbone)
        return means_by_seed(groups, lambda cell: [cell.mean(name, row, tasks=tasks) for name in names])

    def task_by_seed(
        self,
        method: str,
        task: str,
        *,
        row: str = "injected",
        metric: str = "",
        variation: str = "",
        backbone: str = "fedavg",
        tuned: bool = False,
    ) -> dict[int, float]:
        """One task's points by seed, where they exist."""
        groups = self.group(method, variation=variation, backbone=backbone)
        return means_by_seed(groups, lambda cell: [cell.points(task, row, metric, tuned=tuned)])

    def groups(self) -> list[tuple[str, str, str]]:
        """``(method, variation, backbone)`` present, methods in the registry's order, the sites of local-only together."""
        order = list(METHODS)
        found = {(cell.method, cell.variation, cell.backbone) for cell in self.cells}
        ordered = sorted(found, key=lambda one: (order.index(one[0]) if one[0] in order else len(order), *one[1:]))
        merged = [
            ("local-only" if method in LOCAL else method, variation, backbone)
            for method, variation, backbone in ordered
        ]
        return list(dict.fromkeys(merged))

    def tasks(self, which: str) -> list[str]:
        """Tasks of a summary that the main setting has."""
        names = [task for cell in self.cells if not cell.variation for task in cell.tasks(which)]
        return list(dict.fromkeys(names))


def read_scores(folder: Path, *, from_predictions: bool = False) -> Scores:
    """All kept cells of a folder.

    Args:
        folder: ``results/<matrix>``.
        from_predictions: compute synthetic cells' metrics again from their predictions files rather than believe the JSON.

    Raises:
        FedkimError: no such folder, no cell in it, a file that isn't called after its cell; synthetic and real cells, development and
            test patients, or cells of the main setting on other ground (:mod:`fedkim.experiments.ground`) side by side.
    """
    if not folder.is_dir():
        raise FedkimError(f"results {folder}", found="no such folder", remedy="run a matrix first: fedkim experiment")
    cells = [_cell(path, from_predictions) for path in sorted(folder.glob(CELLS))]
    import_plugins(sorted({name for cell in cells for name in cell.plugins}))  # they may have added methods
    if not cells:
        raise FedkimError(f"results {folder}", found="no cell", remedy="run a matrix first: fedkim experiment")
    kinds = {bool(cell.record["meta_info"]["synthetic"]) for cell in cells}
    if len(kinds) > 1:
        raise FedkimError(f"results {folder}", found="synthetic and real patients", expected="never in one table")
    splits = {str(cell.record["run_info"]["split"]) for cell in cells}
    if len(splits) > 1:
        raise FedkimError(
            f"results {folder}",
            found="scores of development patients beside scores of test patients",
            expected="one split in all of a matrix's cells",
            remedy="delete the cells that were run under another evaluation.reveal_test, and run them again",
        )
    _require_one_ground(folder, cells)
    return Scores(name=folder.name, synthetic=kinds.pop(), cells=tuple(cells))


def _require_one_ground(folder: Path, cells: Sequence[CellScores]) -> None:
    """Refuse cells of the main setting that were run on other ground than the first."""
    main = [cell for cell in cells if not cell.variation]
    for cell in main[1:]:
        there, here = ground(main[0].settings, main[0].method), ground(cell.settings, cell.method)
        require_same_ground(there, here, f"result {folder / cell.name}.json", main[0].name)


def common(*columns: Mapping[int, object]) -> list[int]:
    """The seeds that all columns have."""
    return sorted(set.intersection(*(set(column) for column in columns))) if columns else []


def less(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    """The first less the second by seed, on the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in common(first, second)}


def means_by_seed(
    groups: Mapping[int, Sequence[CellScores]], values: Callable[[CellScores], Iterable[float | None]]
) -> dict[int, float]:
    """A seed's mean over all values of all its cells, of the seeds that lack none."""
    means = {seed: whole_mean(one for cell in cells for one in values(cell)) for seed, cells in groups.items()}
    return {seed: mean for seed, mean in means.items() if mean is not None}


def whole_mean(values: Iterable[float | None]) -> float | None:
    """The mean, or None where one of them doesn't exist, or of nothing."""
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return mean_of(known)


def mean_of(values: Iterable[float]) -> float | None:
    """The mean, or None of nothing."""
    known = list(values)
    return fmean(known) if known else None


def _cell(path: Path, from_predictions: bool) -> CellScores:
    has_table = path.with_name(path.name.removesuffix(".json") + SUFFIX).exists()
    record = recomputed(path, intervals=False) if from_predictions and has_table else read_kept(path)
    cell = record["run_info"]["cell"]
    named = Cell(**{key: cell.get(key) for key in ("method", "variation", "backbone", "seed", "configuration")}).name
    if named != path.stem:  # a copy would count as another seed, or hide one
        remedy = "delete the copy, or name the file after its cell"
        raise FedkimError(f"result {path}", found=f"the cell {named}", expected="that of its name", remedy=remedy)
    return CellScores(
        method=cell["method"],
        variation=cell["variation"],
        backbone=cell["backbone"],
        seed=int(cell["seed"]),
        record=record,
        name=path.stem,
    )
