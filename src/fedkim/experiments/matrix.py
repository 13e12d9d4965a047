"""The matrix: cells as lists and never as a product of everything with everything, each a recipe of its own.

A cell's results are in ``results/<name>/<method>[+variation]--<backbone>--seed<k>.json``; the file is ``matrix_file``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.experiments.methods import find_method
from fedkim.recipe import Recipe, from_dict

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


FIGURES = ("{matched_rank}", "{last_but_one}", "{half_of_all_steps}")
"""What a method's settings may name of the base; other braces are a setting's own."""


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
    settings: Mapping[str, tuple[str, ...]]
    """By method or backbone, over the base: what was chosen elsewhere."""
    smoke: bool = False

    @cached_property
    def _base(self) -> Recipe:
        return from_dict(self.base, *(SMOKE if self.smoke else ()), source=self.name)

    def recipe(self, cell: Cell, chosen: Mapping[str, int] | None = None) -> Recipe:
        """The recipe of one cell: base, chosen configuration, ``[settings]``, variation, method, backbone, seed; later ones win.

        Args:
            cell: one of ``cells`` or ``choice``.
            chosen: configuration by method, from the choice; a method without one keeps the base.
        """
        smoke = SMOKE if self.smoke else ()
        overrides = _without_models(cell.overrides) if self.smoke else cell.overrides
        base = from_dict(self.base, *smoke, *overrides, source=self.name) if overrides else self._base
        figures = _figures(base)
        settings = [_filled(text, figures, cell) for text in find_method(cell.method).settings]
        own = from_dict(self.base, *smoke, *overrides, *settings, source=self.name)
        number = cell.configuration
        if number is None and chosen is not None:
            number = chosen.get(choice_method(cell.method))
        configuration = (
            []
            if number is None
            else [c.replace("{double_rank}", str(2 * own.m3oe.rank)) for c in self.configurations[number]]
        )
        configuration = _applicable(configuration, own)
        split = () if cell.configuration is None else _CHOOSING
        recipe = from_dict(
            self.base,
            *smoke,
            *configuration,
            *_applicable(self.settings.get(choice_method(cell.method), ()), own),
            *self.settings.get(cell.backbone, ()),
            *overrides,
            *settings,  # after the variation: a method that takes half of all steps takes half of the variation's
            f"federation.algorithm={cell.backbone}",
            f"run.seed={cell.seed}",
            "run.threads=1",
            "run.workers=1",
            "run.share_extraction=true",
            *split,
            source=self.name,
        )
        return replace(recipe, run=replace(recipe.run, name=self.name))


def _figures(base: Recipe) -> dict[str, int]:
    """What :data:`FIGURES` stand for, of the base with a cell's variation."""
    rounds = base.federation.rounds
    return {
        "{matched_rank}": base.m3oe.experts * base.m3oe.rank,
        "{last_but_one}": max(1, rounds - 1),
        "{half_of_all_steps}": -(-rounds * base.injection.steps_per_round // 2),
    }


def _applicable(configuration: Sequence[str], own: Recipe) -> list[str]:
    """What of a configuration a method has: FedPlug no adapter, and neither one LoRA nor the uniform route a router."""
    lacking: tuple[str, ...] = ()
    if own.m3oe.experts < 2 or own.m3oe.router == "uniform":
        lacking += ("injection.router_learning_rate=", "m3oe.router_")
    if not own.m3oe.experts:
        lacking += ("m3oe.",)
        told = [setting for setting in configuration if setting.startswith("injection.alignment_learning_rate=")]
        alignment = from_dict({}, *told).injection if told else own.injection
        if alignment.alignment_learning_rate > 0:  # 0 is the adapters' rate
            lacking += ("injection.learning_rate=",)
    return [setting for setting in configuration if not setting.startswith(lacking)]


def _without_models(overrides: Sequence[str]) -> tuple[str, ...]:
    """A smoke run has one language model, whichever a variation names."""
    return tuple(setting for setting in overrides if setting.partition("=")[0].strip() != "llm.name")


def _filled(text: str, figures: Mapping[str, int], cell: Cell) -> str:
    if "{half_of_all_steps}" in text and not figures["{half_of_all_steps}"]:
        raise FedkimError(
            f"cell {cell.name}",
            found="a method with half of all steps, and injection.steps_per_round = 0 (one pass over the public samples)",
            expected="a number of steps",
            remedy="set injection.steps_per_round in the matrix's base",
        )
    for name, figure in figures.items():  # no str.format: a setting may have braces of its own
        text = text.replace(name, str(figure))
    return text


def result_file(results: Path, matrix: str, cell: Cell) -> Path:
    """Where a cell's result stands once it is done, by its matrix's name."""
    folder = results if cell.configuration is None else results / "choice"
    return folder / matrix / f"{cell.name}.json"


def choice_method(method: str) -> str:
    """The method whose choice a method shares: a reference or an ablation takes what was chosen for what it is compared with."""
    found = find_method(method)
    return method if found.chooses else found.compared_with
