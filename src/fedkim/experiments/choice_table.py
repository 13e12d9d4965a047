"""What was chosen, among what, and whether the grid of rates cut the choice off."""

from collections.abc import Sequence
from pathlib import Path

from fedkim.experiments.choosing import read_choice
from fedkim.experiments.methods import find_method, title_of
from fedkim.experiments.table import DASH, Table

_RATE, _ALIGNMENT = "injection.learning_rate", "injection.alignment_learning_rate"
_ROUTER = "injection.router_learning_rate"
_SCALE, _TOKENS = "m3oe.alpha", "extraction.tokens."


def choice_tables(folder: Path) -> list[Table]:
    """A row per method of the choice in ``<folder>/chosen.json``; nothing before it was made.

    Raises:
        FedkimError: the file is damaged.
    """
    path = folder / "chosen.json"
    if not path.exists():
        return []
    record = read_choice(path)
    configurations = record["configurations"]
    rows = []
    for method, chosen in record["chosen"].items():
        scores = record["scores"].get(method, {})
        shown = [
            f"{100 * scores[number]:.1f}{' (chosen)' if int(number) == chosen else ''}" if number in scores else DASH
            for number in map(str, range(len(configurations)))
        ]
        adapted = "m3oe.experts=0" not in find_method(method).settings
        adapters = _edge(configurations, chosen, _RATE) if adapted else DASH
        rows.append([title_of(method), *shown, adapters, _edge(configurations, chosen, _ALIGNMENT, _RATE)])
    note = (
        "Mean AUROC of the seen tasks on development patients of the choosing seeds, points; rates of adapters (and router) / alignment. A method "
        "whose chosen rate is the lowest or the highest might do better beyond it."
    )
    header = ["method", *map(_label, configurations), "adapters' rate", "alignment's rate"]
    return [Table(title="Choice of settings", note=note, header=header, rows=rows)]


def _edge(configurations: Sequence[Sequence[str]], chosen: int, *keys: str) -> str:
    """Where the chosen rate lies among those tried: ``between others`` is where it should."""
    rates = [_rate(one, *keys) for one in configurations]
    known = [rate for rate in rates if rate is not None]
    found = rates[chosen]
    if found is None or len(set(known)) < 2:
        return DASH
    return {min(known): "the lowest", max(known): "the highest"}.get(found, "between others")


def _rate(configuration: Sequence[str], *keys: str) -> float | None:
    """The first of these settings that a configuration has."""
    named = dict(setting.split("=", 1) for setting in configuration)
    return next((float(named[key]) for key in keys if key in named), None)


def _label(configuration: Sequence[str]) -> str:
    """``1e-3 / 8e-3, 8 tokens, scale 2``; a setting that isn't known by a short name stands in full."""
    named = dict(setting.split("=", 1) for setting in configuration)
    if named.get(_ROUTER) == named.get(_RATE):
        named.pop(_ROUTER, None)  # the adapters' rate is the router's too
    rates = [named[key] for key in (_RATE, _ALIGNMENT) if key in named]
    words = [" / ".join(rates)] if rates else []
    for key, value in named.items():
        if key == _SCALE:
            words.append("scale 2" if "{double_rank}" in value else f"{key}={value}")
        elif key.startswith(_TOKENS):
            words.append(f"{value} tokens")
        elif key not in (_RATE, _ALIGNMENT):
            words.append(f"{key}={value}")
    return ", ".join(dict.fromkeys(words)) or "base"
