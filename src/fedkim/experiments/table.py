"""A table of text: one form for Markdown and HTML. Numbers are points: means over seeds with their t-intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedkim.evaluation.seeds import paired_seeds

DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A title, what to know when reading it, and cells of text."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [line for text in (self.title and f"### {self.title}", self.note) if text for line in (text, "")]
        lines += ["| " + " | ".join(self.header) + " |", "|" + " --- |" * len(self.header)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


def shown(values: Mapping[int, float]) -> str:
    """A score, ``57.1 ± 2.3``; one seed has no interval, none a dash."""
    paired = paired_seeds(list(values.values()))
    if paired is None:
        return DASH if not values else f"{fmean(values.values()):.1f}"
    return f"{paired.mean:.1f} ± {paired.high - paired.mean:.1f}"


def difference(values: Mapping[int, float]) -> str:
    """A difference with its bounds, ``+2.3 [-0.4, +5.0]``; one seed has none, no seed a dash."""
    paired = paired_seeds(list(values.values()))
    if paired is None:
        return DASH if not values else signed(fmean(values.values()))
    return f"{signed(paired.mean)} [{signed(paired.low)}, {signed(paired.high)}]"


def signed(value: float) -> str:
    """``+2.3``; what rounds to 0 has no sign."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text
