"""Tables of real patients: methods over published folds, with intervals from the kept bootstrap draws of patients.

A fold's draws resample the same patients for every method, so differences of methods are paired; folds hold different
patients, and count alike. A draw in which one fold has no score (one class alone was drawn) is left out whole. What is left out
too is the noise of training: each fold is trained once.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

import numpy as np

from fedkim.errors import FedkimError
from fedkim.experiments.methods import FEDKIM, title_of
from fedkim.experiments.scores import CellScores, Scores, whole_mean
from fedkim.experiments.table import DASH, Table

FOLD = "fold-"
"""Variations of a matrix over folds are named ``fold-0``, ``fold-1``, …"""
_FEW = "A task with fewer than five patients in a fold has no interval, and neither has a mean with it."

Drawn = tuple[float, np.ndarray]
"""A score in points and its bootstrap draws."""


def fold_tables(scores: Scores) -> list[Table]:
    """Scores by method, methods less each other, each method less what it could be replaced with; nothing where no fold has been run."""
    cells = _by_method(scores)
    if not cells:
        return []
    return [
        _scores("seen tasks", "AUROC", "seen", cells),
        _scores("unseen tasks", "AUROC", "unseen", cells),
        _scores("unseen free text", "Exact match", "generation", cells),
        _differences(cells),
        _against_references(cells),
    ]


def _by_method(scores: Scores) -> dict[str, dict[str, CellScores]]:
    """Cells by method and fold; only the folds that every method has."""
    found: dict[str, dict[str, CellScores]] = {}
    for cell in scores.cells:
        if cell.variation.startswith(FOLD) and "draws" in cell.record:
            folds = found.setdefault(cell.method, {})
            if cell.variation in folds:
                raise FedkimError(
                    f"results {scores.name}",
                    found=f"{cell.method} twice on {cell.variation} (backbone or seed differ)",
                    expected="one training a method and fold",
                )
            folds[cell.variation] = cell
    common = set.intersection(*(set(folds) for folds in found.values())) if found else set()
    return {
        method: {fold: folds[fold] for fold in sorted(common)}
        for method in [name for name, _, _ in scores.groups() if name in found]
        for folds in [found[method]]
        if common
    }


def _scores(title: str, metric: str, which: str, cells: Mapping[str, Mapping[str, CellScores]]) -> Table:
    tasks = _tasks(which, cells)
    rows = []
    for method, folds in cells.items():
        drawn = [_over_folds(folds, task) for task in tasks]
        rows.append([title_of(method), *map(_shown, drawn), *_means(drawn)])
    folds = next(iter(cells.values()))
    for row, name in (("small_before", "small models, before injection"), ("proxy", "best seen head (proxy)")):
        drawn = [_over_folds(cells["fedkim"], task, row) if "fedkim" in cells else None for task in tasks]
        if any(one is not None for one in drawn):
            rows.append([f"*{name}*", *map(_shown, drawn), *_means(drawn)])
    majority = [_plain_mean(folds, task, "majority_per_template") for task in tasks]
    if majority and all(value is not None for value in majority):
        rows.append(["*majority of the template*", *map(_figure, majority), _figure(whole_mean(majority)), DASH])
    return Table(
        title=f"Real patients: {title}",
        note=f"{metric}, mean over {len(folds)} folds [95 % by patient]. One training a fold. {_FEW}",
        header=["method", *tasks, "mean", "mean of those with interval"],
        rows=rows if tasks else [],
    )


def _differences(cells: Mapping[str, Mapping[str, CellScores]]) -> Table:
    """FEDKIM less every other method, then the others among themselves."""
    others = [method for method in cells if method != FEDKIM]
    pairs = [(FEDKIM, other) for other in others if FEDKIM in cells]
    pairs += [(second, first) for first, second in combinations(others, 2)]
    rows = []
    for first, second in pairs:
        row = [f"{title_of(first)} − {title_of(second)}"]
        for which in ("seen", "unseen"):
            found = [
                _less(*(_over_folds(cells[name], task) for name in (first, second))) for task in _tasks(which, cells)
            ]
            row += _means([one for one in found if one is not None], sign="+")
        rows.append(row)
    return Table(
        title="Real patients: differences",
        note=f"Points of mean AUROC, paired by patient, without adjustment for their number; the noise of training is not in the intervals. {_FEW}",
        header=["difference", "seen", "seen, those with interval", "unseen", "unseen, those with interval"],
        rows=rows,
    )


def _against_references(cells: Mapping[str, Mapping[str, CellScores]]) -> Table:
    """Each injected model less what it could have been replaced with."""
    seen, unseen = (_tasks(which, cells) for which in ("seen", "unseen"))
    asked = [*((task, "small_before") for task in seen), *((task, "proxy") for task in unseen)]
    rows = []
    for method, folds in cells.items():
        pairs = [(_over_folds(folds, task), _over_folds(folds, task, row)) for task, row in asked]
        rows.append([title_of(method), *(_shown(_less(*pair), sign="+") for pair in pairs)])
    return Table(
        title="Real patients: less the small models, less the best seen head",
        note=(
            "Points of AUROC, paired by patient: on seen tasks less the method's own small models, before injection, on unseen ones less the best "
            f"of their heads, without adjustment for their number. {_FEW}"
        ),
        header=["method", *(task for task, _ in asked)],
        rows=rows if any(text != DASH for row in rows for text in row[1:]) else [],
    )


def _less(first: Drawn | None, second: Drawn | None) -> Drawn | None:
    """The difference of two scores of the same patients, draw by draw."""
    return None if first is None or second is None else (first[0] - second[0], first[1] - second[1])


def _tasks(which: str, cells: Mapping[str, Mapping[str, CellScores]]) -> list[str]:
    return list(
        dict.fromkeys(task for folds in cells.values() for cell in folds.values() for task in cell.tasks(which))
    )


def _over_folds(folds: Mapping[str, CellScores], task: str, row: str = "injected") -> Drawn | None:
    """The mean over the folds in which the score exists; None if it exists in none."""
    values, draws = [], []
    for cell in folds.values():
        value = cell.points(task, row)
        kept = cell.record["draws"].get(task, {}).get(row)
        if value is not None and kept:
            values.append(value)
            draws.append([np.nan if one is None else 100 * one for one in kept])
    if not values:
        return None
    return fmean(values), np.mean(draws, axis=0)


def _plain_mean(folds: Mapping[str, CellScores], task: str, row: str) -> float | None:
    """The mean over folds of a score that has no draws."""
    return whole_mean(cell.points(task, row) for cell in folds.values())


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _means(drawn: Sequence[Drawn | None], sign: str = "") -> list[str]:
    """The mean over tasks, and over those of them that have an interval: a task of few patients would take it from all."""
    known = [one for one in drawn if one is not None]
    whole = known if len(known) == len(drawn) else []
    measured = [one for one in whole if _interval(one[1])]
    return [_shown(_mean(group), sign) for group in (whole, measured)]


def _mean(drawn: Sequence[Drawn]) -> Drawn | None:
    if not drawn:
        return None
    return fmean(value for value, _ in drawn), np.mean([draws for _, draws in drawn], axis=0)


def _interval(draws: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the draws; None where more than half of them have no score."""
    known = draws[~np.isnan(draws)]
    if len(known) < len(draws) / 2:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _shown(drawn: Drawn | None, sign: str = "") -> str:
    if drawn is None:
        return DASH
    value, draws = drawn
    interval = _interval(draws)
    if interval is None:
        return f"{value:{sign}.1f}"
    low, high = interval
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"
