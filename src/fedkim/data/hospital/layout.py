"""Layout: how a hospital's table of stays is laid out."""

from dataclasses import dataclass

UNIT = "unit"
"""Column of the units of a long table, if it has one and no other is declared."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a table of stays is laid out: ``[data.series]`` with what the tables have in common, hashable."""

    form: str = "wide"
    stay: str = ""
    """Column of the stay's id; empty: the file holds one stay."""
    hour: str = "hour"
    concept: str = "concept"
    value: str = "value"
    unit: str = UNIT
    columns: tuple[tuple[str, str], ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    sentinels: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("",)
    encoding: str = "utf-8"
    delimiter: str = ","
    decimal: str = "."
