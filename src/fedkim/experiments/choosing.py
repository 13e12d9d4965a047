"""Choosing settings: every method among the same configurations, by seen tasks on development patients of other seeds."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from fedkim.errors import FedkimError
from fedkim.experiments.keeping import read_kept
from fedkim.experiments.matrix import Matrix, choice_method, result_file
from fedkim.store.files import plain, pretty, write_text

_OTHER = {"base": "another base", "settings": "other [settings]", "cells": "other methods or seeds"}
"""Parts of :func:`made_with` in a sentence."""


def write_chosen(matrix: Matrix, results: Path) -> Path:
    """For each method of the choice the configuration with the best mean development AUROC of seen tasks.

    ::

        {"chosen": {"fedkim": 3, …}, "scores": {"fedkim": {"0": 0.81, "1": 0.83, …}}, "configurations": [["injection.…"], …],
         "made_with": {"base": {"data": {…}, …}, "settings": {}, "cells": ["fedkim+configuration-0--fedavg--seed0", …]}}

    Ties go to the earlier configuration.

    Raises:
        FedkimError: a cell of the choice has no result, or one of test patients.
    """
    values: dict[str, dict[int, list[float]]] = {}
    for cell in matrix.choice:
        path = result_file(results, matrix.name, cell)
        record = read_kept(path)
        if record["run_info"]["split"] != "development":
            raise FedkimError(f"choice {path}", found="scores of test patients", expected="development patients")
        assert cell.configuration is not None
        values.setdefault(cell.method, {}).setdefault(cell.configuration, []).append(seen_score(record, path))
    scores = {
        method: {number: round(fmean(named[number]), 6) for number in sorted(named)} for method, named in values.items()
    }
    chosen = {method: max(row, key=lambda number: (row[number], -number)) for method, row in scores.items()}
    path = results / matrix.name / "chosen.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "chosen": chosen,
        "scores": scores,
        "configurations": [list(one) for one in matrix.configurations],
        "made_with": made_with(matrix),
    }
    write_text(path, pretty(record))
    return path


def read_chosen(matrix: Matrix, results: Path) -> dict[str, int]:
    """Configuration by method; empty for smoke runs and matrices without a choice.

    Raises:
        FedkimError: nothing has been chosen yet, not for every method, or under another base, on other seeds or among other
            configurations than the matrix has now.
    """
    if matrix.smoke or not matrix.configurations:
        return {}
    path = results / matrix.name / "chosen.json"
    record = read_choice(path)
    if record["configurations"] != [list(one) for one in matrix.configurations]:
        raise FedkimError(
            f"chosen settings {path}", found="other configurations than the matrix has", remedy="choose again: --choose"
        )
    changed = [name for name, value in made_with(matrix).items() if record["made_with"][name] != value]
    # what is best under one base needn't be under another, and an evaluated seed may have been a choosing one
    if changed:
        raise FedkimError(
            f"chosen settings {path}",
            found=f"made with {_OTHER[changed[0]]} than the matrix has now",
            remedy="choose again: --choose",
        )
    lacking = {choice_method(cell.method) for cell in matrix.cells} - set(record["chosen"])
    if lacking:
        found = f"no choice for {', '.join(sorted(lacking))}"
        raise FedkimError(f"chosen settings {path}", found=found, remedy="add it to [choice] methods and choose again")
    return dict(record["chosen"])


def made_with(matrix: Matrix) -> dict[str, Any]:
    """What else a choice depends on, as JSON gives it back: the base, ``[settings]`` over it, methods and seeds."""
    names = {choice_method(cell.method) for cell in matrix.choice} | {cell.backbone for cell in matrix.choice}
    settings = {name: list(matrix.settings[name]) for name in sorted(names & matrix.settings.keys())}
    return {"base": plain(matrix.base), "settings": settings, "cells": sorted(cell.name for cell in matrix.choice)}


def read_choice(path: Path) -> dict[str, Any]:
    """A choice as :func:`write_chosen` wrote it.

    Raises:
        FedkimError: nothing has been chosen yet, or the file is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _check(record)
    except FileNotFoundError:
        raise FedkimError(
            f"chosen settings {path}", found="none yet", remedy="choose first: --choose, with the same --results"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found, remedy = "no choice that can be read", "restore it, or choose again: --choose"
        raise FedkimError(f"chosen settings {path}", found=found, remedy=remedy) from None
    return dict(record)


def _check(record: Mapping[str, Any]) -> None:
    """Raise ValueError, or what Python raises by itself, where a choice isn't whole."""
    numbers = range(len(record["configurations"]))
    if not {"base", "settings", "cells"} <= record["made_with"].keys():
        raise ValueError
    for setting in (setting for one in record["configurations"] for setting in one):
        name, _, value = setting.partition("=")
        if not name or not value:
            raise ValueError
    for method, number in record["chosen"].items():
        scores = record["scores"].get(method, {})
        if type(number) is not int or number not in numbers:
            raise ValueError
        if not all(int(one) in numbers and type(score) in (int, float) for one, score in scores.items()):
            raise ValueError


def seen_score(record: Mapping[str, Any], path: Path) -> float:
    """Mean AUROC of the seen tasks of the result in a file.

    Raises:
        FedkimError: one of them has none, or all are hidden.
    """
    values = {
        task: entry["rows"]["injected"]["primary"]["value"]
        for task, entry in record["metrics"].items()
        if entry["seen"]
    }
    lacking = sorted(task for task, value in values.items() if value is None)
    if lacking or not values:
        found = f"no AUROC of the seen task {lacking[0]!r}" if lacking else "no seen task's score"
        raise FedkimError(
            f"choice {path}",
            found=found,
            expected="development patients with either answer, ten or more of a hospital's",
            remedy="evaluation.development_samples higher, or more patients",
        )
    return fmean(values.values())
