"""The matrix: cells named one by one in a TOML file, as lists and never as a product of everything with everything.

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

In a configuration ``{double_rank}`` is twice the method's own rank, so that ``m3oe.alpha={double_rank}`` doubles its scale.
Blocks are run in the file's order, so the first ones matter most. A cell's results are in
``results/<name>/<method>[+variation]--<backbone>--seed<k>.json``.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.experiments.methods import find_method
from fedkim.recipe import Recipe, from_dict

_WORD = re.compile(r"[a-z0-9][a-z0-9.\-]{0,40}")

SMOKE = (
    'run.dtype="float32"',
    "data.image_size=32",
    "data.image_patients=80",
    "data.signal_patients=80",
    "data.icu_patients=80",
    "extraction.width=16",
    "extraction.local_epochs=1",
    "federation.rounds=2",
    "llm.name=tiny",
    "llm.max_new_tokens=3",
    "m3oe.experts=4",
    "m3oe.rank=2",
    "m3oe.router_width=16",
    "injection.batch_size=8",
    "injection.steps_per_round=2",
    "evaluation.draws=100",
    "evaluation.development_samples=8",
)
"""What ``--smoke`` changes in every cell: a random two-layer language model and few patients. Its scores mean nothing."""


_CHOOSING = ("evaluation.reveal_test=false", "evaluation.unseen=false", "evaluation.development_samples=0")
"""Settings are chosen by seen tasks on all development patients."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the matrix."""

    method: str
    backbone: str
    seed: int
    variation: str = ""
    """Empty for the main setting."""
    configuration: int | None = None
    """Which of the choice's configurations; None outside of the choice."""
    overrides: tuple[str, ...] = ()
    """Of the variation or configuration, ``table.key=value``."""

    @property
    def group(self) -> str:
        """``fedkim+rho-0--fedavg``: equal for a cell's seeds."""
        variation = f"+{self.variation}" if self.variation else ""
        chosen = "" if self.configuration is None else f"+configuration-{self.configuration}"
        return f"{self.method}{variation}{chosen}--{self.backbone}"

    @property
    def name(self) -> str:
        """``fedkim+rho-0--fedavg--seed10``: the cell's folder and file."""
        return f"{self.group}--seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix file, read and checked."""

    name: str
    base: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]
    choice: tuple[Cell, ...]
    configurations: tuple[tuple[str, ...], ...]
    smoke: bool = False

    @cached_property
    def _base(self) -> Recipe:
        return from_dict(self.base, *(SMOKE if self.smoke else ()), source=self.name)

    def recipe(self, cell: Cell, chosen: Mapping[str, int] | None = None) -> Recipe:
        """The recipe of one cell: base, method, chosen configuration, variation, backbone, seed; later ones win.

        Args:
            cell: one of ``cells`` or ``choice``.
            chosen: configuration by method, from the choice; a method without one keeps the base.
        """
        smoke = SMOKE if self.smoke else ()
        base = from_dict(self.base, *smoke, *cell.overrides, source=self.name) if cell.overrides else self._base
        figures = _figures(base)
        settings = [_filled(text, figures, cell) for text in find_method(cell.method).settings]
        own = from_dict(self.base, *smoke, *settings, *cell.overrides, source=self.name).m3oe
        number = cell.configuration
        if number is None and chosen is not None:
            number = chosen.get(choice_method(cell.method))
        configuration = (
            [] if number is None else [c.format(double_rank=2 * own.rank) for c in self.configurations[number]]
        )
        if not own.experts:  # FedPlug has no adapter to scale
            configuration = [setting for setting in configuration if not setting.startswith("m3oe.")]
        split = () if cell.configuration is None else _CHOOSING
        recipe = from_dict(
            self.base,
            *smoke,
            *configuration,
            *settings,
            *cell.overrides,
            f"federation.algorithm={cell.backbone}",
            f"run.seed={cell.seed}",
            "run.threads=1",
            "run.workers=1",
            "run.share_extraction=true",
            *split,
            source=self.name,
        )
        return replace(recipe, run=replace(recipe.run, name=self.name))


def load_matrix(path: Path, *, smoke: bool = False) -> Matrix:
    """Read a matrix; with ``smoke`` smaller still: two seeds of the first block, one of every other.

    Raises:
        FedkimError: no such file, not TOML, an unknown key, method or setting, a cell twice.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FedkimError(f"matrix {path}", found="no such file", remedy="check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FedkimError(f"matrix {path}", found=f"unreadable ({error})", expected="a TOML file") from None
    _only(str(path), table, ("name", "base", "cells", "choice"))
    if not isinstance(table.get("cells"), list) or not table["cells"]:
        raise FedkimError(f"matrix {path}", found="no [[cells]]", expected="at least one block")
    name = _word(f"{path}: name", table.get("name", path.stem))
    cells: list[Cell] = []
    for number, block in enumerate(table["cells"]):
        cells += _block(f"{path}: [[cells]] {number + 1}", block, at_most=(2 if number == 0 else 1) if smoke else None)
    choice = table.get("choice", {})
    _only(f"{path}: [choice]", choice, ("seeds", "methods", "backbone", "configurations"))
    configurations = tuple(tuple(map(str, one)) for one in choice.get("configurations", ()))
    matrix = Matrix(
        name=f"{name}-smoke" if smoke else name,
        base=table.get("base", {}),
        cells=tuple(cells),
        choice=() if smoke else tuple(_choice(choice, len(configurations))),
        configurations=configurations,
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


def _figures(base: Recipe) -> dict[str, int]:
    """What methods' settings may name, of the base with a cell's variation."""
    rounds = base.federation.rounds
    return {
        "matched_rank": base.m3oe.experts * base.m3oe.rank,
        "last_but_one": max(1, rounds - 1),
        "half_of_all_steps": -(-rounds * base.injection.steps_per_round // 2),
    }


def _filled(text: str, figures: Mapping[str, int], cell: Cell) -> str:
    if "{half_of_all_steps}" in text and not figures["half_of_all_steps"]:
        raise FedkimError(
            f"cell {cell.name}",
            found="a method with half of all steps, and injection.steps_per_round = 0 (one pass over the public set)",
            expected="a number of steps",
            remedy="set injection.steps_per_round in the matrix's base",
        )
    return text.format(**figures)


def choice_method(method: str) -> str:
    """The method whose choice a method shares: a reference or an ablation takes what was chosen for what it is compared with.

    FedPlug, both FedPlug_L, FEDKIM and FEDKIM+ choose for themselves.
    """
    own = ("fedplug", "fedplug-lora", "fedplug-lora-matched", "fedkim-plus")
    return method if method in own else "fedkim"


def _block(where: str, block: Any, *, at_most: int | None) -> list[Cell]:
    _only(where, block, ("methods", "backbones", "seeds", "variation", "set"))
    variation = block.get("variation", "")
    if variation:
        _word(f"{where}: variation", variation)
    methods, seeds = _list(where, block, "methods", str), _list(where, block, "seeds", int)
    backbones = _list(where, block, "backbones", str) if "backbones" in block else ["fedavg"]
    if block.get("set") and not variation:
        raise FedkimError(f"{where}: set", found="settings without a name", remedy='give variation = "…"')
    return [
        Cell(
            method=find_method(method).name,
            backbone=backbone,
            seed=seed,
            variation=variation,
            overrides=tuple(block.get("set", ())),
        )
        for seed in seeds[:at_most]  # seeds outermost: a stopped matrix has whole pairs
        for method in methods
        for backbone in backbones
    ]


def _choice(choice: Mapping[str, Any], count: int) -> list[Cell]:
    return [
        Cell(
            method=find_method(method).name, backbone=choice.get("backbone", "fedavg"), seed=seed, configuration=number
        )
        for seed in choice.get("seeds", ())
        for method in choice.get("methods", ())
        for number in range(count)
    ]


def _check(matrix: Matrix) -> None:
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
    for group in {cell.group: cell for cell in (*matrix.cells, *matrix.choice)}.values():
        matrix.recipe(group)  # every setting is understood before the first cell runs


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


def _word(where: str, value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise FedkimError(where, found=repr(value)[:60], expected="lower-case letters, digits, '-' and '.'")
    return value
