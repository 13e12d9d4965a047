"""A matrix's TOML file, whose cells are named one by one.

::

    name = "paper-matrix"

    [base.data]                      # a recipe's tables; every cell is a delta on them
    image_patients = 1000

    [[cells]]                        # methods × backbones × seeds of one block
    methods = ["fedplug", "fedkim"]
    backbones = ["fedavg"]
    seeds = [10, 11]

    [[cells]]                        # the same, under another variation
    methods = ["fedkim"]
    seeds = [10, 11]
    variation = "rho-0"
    set = ["data.rho=0.0"]

    [choice]                         # how every method's settings are chosen, on development patients of other seeds
    seeds = [0, 1]
    methods = ["fedplug", "fedkim"]
    configurations = [["injection.learning_rate=5e-4"], ["injection.learning_rate=1e-3"]]

``[settings]`` gives a method its own, ``fedplug = ["injection.learning_rate=4e-3"]``, over what was chosen if anything was; who shares
another's choice shares these too. A backbone has its own likewise, ``fedprox = ["federation.proximal_mu=1e-3"]``. In a configuration
``{double_rank}`` is twice the method's own rank, so that ``m3oe.alpha={double_rank}`` doubles its scale.
Blocks are run in the file's order, so the first ones matter most. A cell's results are in
``results/<name>/<method>[+variation]--<backbone>--seed<k>.json``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedkim.aggregation import ALGORITHMS
from fedkim.errors import FedkimError, unknown
from fedkim.experiments.ground import is_ground
from fedkim.experiments.matrix import FIGURES, Cell, Matrix, choice_method
from fedkim.experiments.methods import METHODS, find_method
from fedkim.recipe import from_dict, import_plugins
from fedkim.toml_files import read_toml

_WORD = re.compile(r"[a-z0-9][a-z0-9.\-]{0,40}")
_KEY = re.compile(r"\w+(\.[\w-]+)+")


def load_matrix(path: Path, *, smoke: bool = False) -> Matrix:
    """Read a matrix; with ``smoke`` smaller still: two seeds of the first block, one of every other.

    Raises:
        FedkimError: no such file, not TOML, an unknown key, method or setting, a cell twice.
    """
    table = read_toml(path, "matrix")
    _only(str(path), table, ("name", "base", "settings", "cells", "choice"))
    if not isinstance(table.get("base", {}), Mapping):
        raise FedkimError(f"{path}: base", found=type(table["base"]).__name__, expected="a recipe's tables")
    import_plugins(from_dict(table.get("base", {}), source=str(path)).run.plugins)  # they may add methods
    _check_methods()
    if not isinstance(table.get("cells"), list) or not table["cells"]:
        raise FedkimError(f"matrix {path}", found="no [[cells]]", expected="at least one block")
    name = _word(f"{path}: name", table.get("name", path.stem))
    cells: list[Cell] = []
    for number, block in enumerate(table["cells"]):
        cells += _block(f"{path}: [[cells]] {number + 1}", block, at_most=(2 if number == 0 else 1) if smoke else None)
    configurations, choice = _choice(f"{path}: [choice]", table["choice"]) if "choice" in table else ((), [])
    matrix = Matrix(
        name=f"{name}-smoke" if smoke else name,
        base=table.get("base", {}),
        cells=tuple(cells),
        choice=() if smoke else tuple(choice),
        configurations=configurations,
        settings=_settings(f"{path}: [settings]", table.get("settings", {}), [*cells, *choice]),
        smoke=smoke,
    )
    _check(matrix)
    return replace(matrix, choice=_distinct(matrix))


def _distinct(matrix: Matrix) -> tuple[Cell, ...]:
    """The choice without configurations that are an earlier one for their method."""
    first: dict[tuple[str, int, str], Cell] = {}
    for cell in matrix.choice:
        first.setdefault((cell.method, cell.seed, matrix.recipe(cell).digest()), cell)
    return tuple(first.values())


def _block(where: str, block: Any, *, at_most: int | None) -> list[Cell]:
    _only(where, block, ("methods", "backbones", "seeds", "variation", "set"))
    variation = _word(f"{where}: variation", block["variation"]) if block.get("variation", "") != "" else ""
    methods, seeds = _list(where, block, "methods", str), _list(where, block, "seeds", int)
    backbones = _list(where, block, "backbones", str) if "backbones" in block else ["fedavg"]
    overrides = _strings(f"{where}: set", block.get("set", []))
    if overrides and not variation:
        raise FedkimError(f"{where}: set", found="settings without a name", remedy='give variation = "…"')
    return [
        Cell(
            method=find_method(method).name,
            backbone=_known(where, backbone),
            seed=seed,
            variation=variation,
            overrides=tuple(overrides),
        )
        for seed in seeds[:at_most]  # seeds outermost: a stopped matrix has whole pairs
        for method in methods
        for backbone in backbones
    ]


def _known(where: str, backbone: str) -> str:
    """The name of a federated algorithm, which becomes part of folders' names."""
    if backbone not in ALGORITHMS:
        raise unknown(f"backbone of {where}:", backbone, ALGORITHMS)
    return backbone


def _choice(where: str, table: Any) -> tuple[tuple[tuple[str, ...], ...], list[Cell]]:
    """The configurations, and a cell of every method and seed for each."""
    _only(where, table, ("seeds", "methods", "backbone", "configurations"))
    seeds, methods = _list(where, table, "seeds", int), _list(where, table, "methods", str)
    configurations = [
        tuple(_strings(f"{where}: configurations", settings))  # an empty one keeps the base's settings
        for settings in _list(where, table, "configurations", list)
    ]
    (backbone,) = _list(where, {"backbone": [table.get("backbone", "fedavg")]}, "backbone", str)
    backbone = _known(where, backbone)
    cells = [
        Cell(method=find_method(method).name, backbone=backbone, seed=seed, configuration=number)
        for seed in seeds
        for method in methods
        for number in range(len(configurations))
    ]
    return tuple(configurations), cells


def _check(matrix: Matrix) -> None:
    if matrix.choice:
        lacking = {choice_method(cell.method) for cell in matrix.cells} - {cell.method for cell in matrix.choice}
        if lacking:
            found = f"no {', '.join(sorted(lacking))} in [choice] methods"
            expected = "every method that is chosen for, or that cells take the choice of"
            raise FedkimError(f"matrix {matrix.name}", found=found, expected=expected)
    names = [cell.name for cell in (*matrix.cells, *matrix.choice)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FedkimError(f"matrix {matrix.name}", found=f"cell {twice[0]} twice", expected="each cell once")
    evaluation, choosing = ({cell.seed for cell in cells} for cells in (matrix.cells, matrix.choice))
    if evaluation & choosing:
        raise FedkimError(
            f"matrix {matrix.name}",
            found=f"seed {min(evaluation & choosing)} both for choosing and for evaluation",
            expected="different seeds: settings chosen on an evaluated seed flatter it",
        )
    _refuse_the_runners_own(matrix)
    chosen = [(f"[settings] {name}", keys) for name, keys in matrix.settings.items()]
    for place, settings in [*chosen, *(("[choice] configurations", one) for one in matrix.configurations)]:
        for key in sorted(filter(is_ground, _keys(settings))):
            expected = "it in the base, in a variation or in a method: other cells are compared on the same ground"
            raise FedkimError(f"matrix {matrix.name}: {place}", found=key, expected=expected)
    for cell in matrix.cells:
        own = [s for s in find_method(cell.method).settings if not any(figure in s for figure in FIGURES)]
        lost = sorted(_keys(own) & _keys(cell.overrides))
        if lost:
            raise FedkimError(
                f"matrix {matrix.name}: cell {cell.name}",
                found=f"{lost[0]} in its variation",
                expected="a key that the method doesn't set itself: the method would win, and the cell be another one's twin",
            )
    for group in {cell.group: cell for cell in (*matrix.cells, *matrix.choice)}.values():
        matrix.recipe(group)  # every setting is understood before the first cell runs


_RUNNERS = {
    "federation.algorithm": "`backbones` of the cells",
    "run.seed": "`seeds` of the cells",
    "run.threads": "one a cell; `--jobs` takes cells side by side",
    "run.workers": "one a cell; `--jobs` takes cells side by side",
    "run.share_extraction": "on: it changes no bit",
    "run.name": "`name` of the matrix",
}


def _refuse_the_runners_own(matrix: Matrix) -> None:
    """What every cell is given by the runner would be overwritten in silence anywhere else."""
    places: list[tuple[str, set[str]]] = [
        ("base", {f"{table}.{key}" for table, keys in matrix.base.items() for key in keys})
    ]
    groups = {cell.group: cell for cell in (*matrix.cells, *matrix.choice)}.values()
    places += [(f"set of {cell.group}", _keys(cell.overrides)) for cell in groups]
    places += [(f"method {cell.method}", _keys(find_method(cell.method).settings)) for cell in groups]
    places += [(f"[settings] {name}", _keys(settings)) for name, settings in matrix.settings.items()]
    places += [("[choice] configurations", _keys(one)) for one in matrix.configurations]
    for place, keys in places:
        for key in sorted(keys & _RUNNERS.keys()):
            raise FedkimError(
                f"matrix {matrix.name}: {place}", found=key, expected=f"that where it belongs: {_RUNNERS[key]}"
            )


def _keys(settings: Sequence[str]) -> set[str]:
    return {setting.partition("=")[0].strip() for setting in settings}


def _settings(where: str, table: Any, cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Settings by method or backbone, of those that a cell has: others would never be read."""
    _only(where, table, sorted({name for cell in cells for name in (choice_method(cell.method), cell.backbone)}))
    return {name: tuple(_strings(f"{where}: {name}", _list(where, table, name, str))) for name in table}


def _only(where: str, table: Any, known: Sequence[str]) -> None:
    if not isinstance(table, Mapping):
        raise FedkimError(where, found=type(table).__name__, expected="a table")
    for key in table:
        if key not in known:
            raise FedkimError(where, found=f"key {key!r}", expected=", ".join(known))


def _list(where: str, block: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = block.get(key)
    if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
        raise FedkimError(f"{where}: {key}", found=repr(values)[:60], expected=f"a list of {kind.__name__}")
    return values


def _strings(where: str, values: Any) -> list[str]:
    """Settings, ``table.key=value``, without blanks in their keys: keys are compared as text."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise FedkimError(where, found=repr(values)[:60], expected='a list of "table.key=value"')
    parts = [value.partition("=") for value in values]
    keys = [".".join(part.strip() for part in key.split(".")) for key, _, _ in parts]
    for key, value in zip(keys, values, strict=True):
        if not _KEY.fullmatch(key) or "=" not in value:
            raise FedkimError(where, found=repr(value)[:60], expected='"table.key=value", without quotes in the key')
    return [f"{key}={value.lstrip()}" for key, (_, _, value) in zip(keys, parts, strict=True)]


def _check_methods() -> None:
    """Refuse methods of plug-ins that could not be run, kept or compared: their names become part of files' names."""
    for key, method in METHODS.items():
        what = f"method {key!r}"
        if _word(f"{what}: name", method.name.replace("_", "-")) != key.replace("_", "-") or method.name != key:
            raise FedkimError(what, found=f"the name {method.name!r}", expected="the one it is registered by")
        if method.compared_with not in METHODS:
            raise unknown(f"{what}: compared_with:", method.compared_with, METHODS)
        if not isinstance(method.settings, tuple):
            raise FedkimError(
                f"{what}: settings", found=type(method.settings).__name__, expected='a tuple of "table.key=value"'
            )
        _strings(f"{what}: settings", list(method.settings))


def _word(where: str, value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise FedkimError(where, found=repr(value)[:60], expected="lower-case letters, digits, '-' and '.'")
    return value
