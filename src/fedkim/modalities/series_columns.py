"""From a hospital's columns to the concepts': names, units and hours of a wide or a long table."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.modalities.units import BY_NAME, Conversion, conversion

if TYPE_CHECKING:
    import pandas

LONG = ("concept", "value")
"""Columns that make a table a long one."""
SUMMED = frozenset({"urine"})
"""Concepts of which an hour holds an amount, not a state."""
MOST_HOURS = 1e9
"""Hours beyond are taken for this one."""
_HEADER = re.compile(r"\s*(\w+)\s*(?:[\[(]\s*(.*?)\s*[\])])?\s*(?:\.\d+)?")
"""Name and unit; pandas appends ``.1`` to a header that stands there twice."""


def is_long(table: "pandas.DataFrame") -> bool:
    """Whether a row is a measurement and not an hour."""
    return set(LONG) <= set(table.columns)


def renamed(table: "pandas.DataFrame", given: Mapping[str, str], what: str) -> "pandas.DataFrame":
    """A wide table with units taken off its headers and values converted."""
    names: dict[Any, str] = {}
    converted: dict[Any, Any] = {}
    for header in table.columns:
        match = _HEADER.fullmatch(str(header))
        name, unit = match.groups() if match else (None, None)
        concept = BY_NAME.get(str(name))
        if concept is None:
            continue
        place = f"{what}: column {concept.name!r}"
        rule = _conversion(concept.name, unit if unit is not None else given.get(concept.name), place)
        if table[header].dtype.kind not in "fiub":
            expected = f"numbers in {concept.unit}"
            raise FedkimError(place, found="text", expected=expected, code="E-SERIES-TEXT")
        if concept.name in names.values():
            raise FedkimError(place, found="it twice", remedy="keep one", code="E-SERIES-COLUMN")
        names[header] = concept.name
        if rule != Conversion():
            converted[header] = table[header] * rule.factor + rule.offset
    return table.assign(**converted).rename(columns=names)


def widened(table: "pandas.DataFrame", given: Mapping[str, str], own: bool, what: str) -> "pandas.DataFrame":
    """A long table as a wide one, an hour a row."""
    if table["value"].dtype.kind not in "fiub":
        raise FedkimError(f"{what}: column 'value'", found="text", expected="numbers", code="E-SERIES-TEXT")
    names = table["concept"].astype(str).str.strip()
    known = names.isin(list(BY_NAME))
    table = table.assign(concept=names).loc[known]
    values = table["value"].astype(float)
    units = table["unit"].astype(str) if "unit" in table.columns else None
    for concept in sorted(set(table["concept"])):
        rows = (table["concept"] == concept).to_numpy()
        place = f"{what}: concept {concept!r}"
        if units is None and concept not in given and not own:
            remedy = "add a column unit, or declare the units"
            raise FedkimError(
                place, found="no unit", expected=BY_NAME[concept].unit, remedy=remedy, code="E-UNIT-MISSING"
            )
        for unit in sorted(set(units[rows])) if units is not None else [given.get(concept)]:
            rule = _conversion(concept, unit, place, shown=units is None)
            chosen = rows & (units == unit).to_numpy() if units is not None else rows
            values = values.mask(chosen, values * rule.factor + rule.offset)
    table = table.assign(value=values, hour=whole_hours(table, what))
    keys = [key for key in ("stay_id", "hour") if key in table.columns]
    parts = []
    low, high = (
        table["concept"].map({name: getattr(c, end) for name, c in BY_NAME.items()}) for end in ("low", "high")
    )
    table = table.assign(plausible=table["value"].between(low, high))
    # a zero of a sensor that fell off is no half of a median; where an hour has nothing else it stays, and is told
    some = table.groupby(["concept", *keys], dropna=False)["plausible"].transform("any")
    table = table[table["plausible"] | ~some]
    for concept, rows in table.groupby("concept", sort=True):
        cells = rows.groupby(keys)["value"]
        parts.append((cells.sum(min_count=1) if concept in SUMMED else cells.median()).rename(concept))
    if not parts:
        raise FedkimError(
            what, found="none of the known concepts", expected="such as hr, sbp, crea, urine", code="E-SERIES-COLUMN"
        )
    import pandas

    return pandas.concat(parts, axis=1).sort_index().reset_index()


def whole_hours(table: "pandas.DataFrame", what: str) -> np.ndarray:
    if "hour" in table.columns:
        hours = table["hour"]
    elif "time" in table.columns:
        hours = table["time"]
    else:
        expected = "hours since admission in column hour"
        raise FedkimError(what, found="neither column hour nor time", expected=expected, code="E-SERIES-HOURS")
    if hours.dtype.kind == "m":
        hours = hours.dt.total_seconds() / 3600
    if hours.dtype.kind not in "fiu" or not np.isfinite(hours.to_numpy(dtype=np.float64)).all():
        raise FedkimError(f"{what}: hours", found="text or gaps", expected="numbers: 0, 1, 2, …", code="E-SERIES-HOURS")
    return np.floor(np.clip(hours.to_numpy(dtype=np.float64), -MOST_HOURS, MOST_HOURS)).astype(int)


def _conversion(concept: str, unit: str | None, place: str, shown: bool = True) -> Conversion:
    """The rule for a unit; one that stood in a cell isn't ``shown`` in the error."""
    if unit is None:
        return Conversion()
    try:
        return conversion(concept, unit)
    except FedkimError as error:
        found = f"unit {unit!r}" if shown else "an unknown unit"
        raise FedkimError(place, found=found, expected=error.expected, remedy="convert it", code=error.code) from None
