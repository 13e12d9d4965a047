"""What was chosen, among what, and whether the grid of rates cut the choice off."""

import json
from collections.abc import Sequence
from pathlib import Path

from fedkim.experiments.methods import title_of
from fedkim.experiments.table import DASH, Table

_RATE, _SCALE, _TOKENS = "injection.learning_rate=", "m3oe.alpha=", "extraction.tokens."


def choice_tables(folder: Path) -> list[Table]:
    """A row per method of the choice in ``<folder>/chosen.json``; nothing before it was made."""
    path = folder / "chosen.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    configurations = record["configurations"]
    rates = [rate for one in configurations if (rate := _rate(one)) is not None]
    rows = []
    for method, scores in record["scores"].items():
        chosen = record["chosen"][method]
        shown = [
            f"{100 * scores[number]:.1f}{' (chosen)' if int(number) == chosen else ''}" if number in scores else DASH
            for number in map(str, range(len(configurations)))
        ]
        rate = _rate(configurations[chosen])
        edge = {min(rates): "the lowest", max(rates): "the highest"}.get(rate, "between others") if rate else DASH
        rows.append([title_of(method), *shown, edge])
    note = (
        "Mean AUROC of the seen tasks on development patients of the choosing seeds, points. A method whose chosen rate is the lowest "
        "or the highest might do better beyond it."
    )
    header = ["method", *map(_label, configurations), "chosen rate"]
    return [Table(title="Choice of settings", note=note, header=header, rows=rows)]


def _rate(configuration: Sequence[str]) -> float | None:
    return next((float(one.removeprefix(_RATE)) for one in configuration if one.startswith(_RATE)), None)


def _label(configuration: Sequence[str]) -> str:
    """``1e-3, 8 tokens, scale 2``; a setting that isn't known by a short name stands in full."""
    words: list[str] = []
    for one in configuration:
        if one.startswith(_RATE):
            words.append(one.removeprefix(_RATE))
        elif one.startswith(_SCALE):
            words.append("scale 2" if "{double_rank}" in one else one)
        elif one.startswith(_TOKENS):
            words.append(f"{one.rpartition('=')[2]} tokens")
        else:
            words.append(one)
    return ", ".join(dict.fromkeys(words)) or "base"
