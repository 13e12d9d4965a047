"""The one limit below which a number about patients isn't told: what describes so few may describe one.

In a table of patients a cell below it is hidden, and with it as many others (the smallest) as are needed for nobody to compute it from the
total: the hidden cells together hold at least ``k`` patients, and could differ among themselves in at least ``k`` ways. If that can't
be had the whole table is hidden, its total too. Zero is shown: that nobody is there says nothing about anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST_CELL = 10
"""Patients (in all, of a group, of a site, of an answer) that a published number must at least describe."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """One table of a site's patients as it may be told; hidden cells are None."""

    counts: Mapping[str, int | None]
    total: int | None


def disclose(counts: Mapping[str, int], k: int = SMALLEST_CELL) -> Cells:
    """A table of patients with its small cells hidden, and enough others."""
    total = sum(counts.values())
    small = {name for name, count in counts.items() if 0 < count < k}
    if not small:
        return Cells(counts=dict(counts), total=total if total == 0 or total >= k else None)
    hidden = set(small)
    others = sorted((name for name, count in counts.items() if count >= k), key=lambda name: (counts[name], name))

    def safe() -> bool:
        together = sum(counts[name] for name in hidden)
        return len(hidden) > 1 and together >= k and together - len(hidden) >= k - 1

    while not safe() and others:
        hidden.add(others.pop(0))
    if not safe():
        return Cells(counts=dict.fromkeys(counts), total=None)
    return Cells(counts={name: None if name in hidden else count for name, count in counts.items()}, total=total)
