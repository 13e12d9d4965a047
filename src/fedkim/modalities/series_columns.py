"""From a hospital's columns to the concepts': names, units and hours of a wide or a long table."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.modalities.units import BY_NAME, Conversion, conversion

if TYPE_CHECKING:
    import pandas

LONG = ("concept", "value")
"""Columns that make a table a long one."""
STRUCTURE = ("stay_id", "hour", "time")
"""Columns that tell rows apart."""
SUMMED = frozenset({"urine"})
"""Concepts of which an hour holds an amount, not a state."""
MOST_HOURS = 1e9
"""Hours beyond are taken for this one."""
_AGAIN = re.compile(r"\.\d{1,2}$")
"""What pandas appends to a header that stands there twice: ``.1``."""


def name_and_unit(header: str) -> tuple[str, str | None]:
    """A header's measurement and its unit, ``crea [µmol/L]``, None where there is none; pandas' ``.1`` belongs to neither."""
    text = _AGAIN.sub("", header.strip()).rstrip()
    for opening, closing in ("[]", "()"):
        if text.endswith(closing) and opening in text:
            name, _, unit = text[:-1].rpartition(opening)
            return name.strip(), unit.strip()
    return text, None


def require_structure(headers: Iterable[str], what: str) -> None:
    """Refuse a column that is called like one of :data:`STRUCTURE`, or of a long table, but for capitals or blanks, where that one is missing.

    Unread it would mix stays, hours or units without a word.

    Raises:
        FedkimError: such a column.
    """
    plain = {header: header.strip().casefold() for header in headers}
    missing = {*STRUCTURE, *LONG, "unit"} - set(plain)
    if "hour" not in missing or "time" not in missing:
        missing -= {"hour", "time"}
    if not {*LONG} <= {*plain.values()}:
        missing -= {*LONG, "unit"}  # a wide table's own words
    for header, name in plain.items():
        if name in missing:
            found, remedy = f"a column {header!r}", "rename it"
            raise FedkimError(what, found=found, expected=f"{name!r}", remedy=remedy, code="E-SERIES-COLUMN")


def nearly_known(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Those of the names that are a known one but for capitals (or a ``.1`` before the unit), and which one."""
    plain = {name.casefold(): name for name in known}
    others = {name: _AGAIN.sub("", name).casefold() for name in names if name not in known}
    return {name: plain[other] for name, other in others.items() if other in plain}


def rows_by_unit(stated: Sequence[str], declared: str | None) -> dict[str, np.ndarray]:
    """Row positions by the unit of their values: what stands beside them, where nothing does the declared one, else empty."""
    rows: dict[str, list[int]] = {}
    for row, unit in enumerate(stated):
        rows.setdefault(unit or declared or "", []).append(row)
    return {unit: np.array(places) for unit, places in rows.items()}


def is_long(table: "pandas.DataFrame") -> bool:
    """Whether a row is a measurement and not an hour."""
    return set(LONG) <= set(table.columns)


def renamed(table: "pandas.DataFrame", given: Mapping[str, str], what: str) -> "pandas.DataFrame":
    """A wide table with units taken off its headers and values converted."""
    names: dict[Any, str] = {}
    converted: dict[Any, Any] = {}
    for header in table.columns:
        name, unit = name_and_unit(str(header))
        concept = BY_NAME.get(name)
        if concept is None:
            continue
        place = f"{what}: column {concept.name!r}"
        rule = _conversion(concept.name, unit if unit is not None else given.get(concept.name), place)
        column = table[header]
        if column.dtype.kind == "O" and column.isna().all():  # R calls a column without any value a logical one
            column = converted[header] = column.astype("float64")
        if column.dtype.kind not in "fiub":
            expected = f"numbers in {concept.unit}"
            raise FedkimError(place, found="text", expected=expected, code="E-SERIES-TEXT")
        if concept.name in names.values():
            raise FedkimError(place, found="it twice", remedy="keep one", code="E-SERIES-COLUMN")
        names[header] = concept.name
        if rule != Conversion():
            converted[header] = column * rule.factor + rule.offset
    return table.assign(**converted).rename(columns=names)


def widened(table: "pandas.DataFrame", given: Mapping[str, str], own: bool, what: str) -> "pandas.DataFrame":
    """A long table as a wide one, an hour a row."""
    if table["value"].dtype.kind not in "fiub":
        raise FedkimError(f"{what}: column 'value'", found="text", expected="numbers", code="E-SERIES-TEXT")
    names = table["concept"].astype(str).str.strip()
    known = names.isin(list(BY_NAME))
    table = table.assign(concept=names).loc[known]
    values = table["value"].to_numpy(dtype=np.float64, copy=True)
    stated = _cells(table["unit"]) if "unit" in table.columns else [""] * len(table)
    for concept in sorted(set(table["concept"])):
        rows = np.flatnonzero((table["concept"] == concept).to_numpy() & ~np.isnan(values))
        place = f"{what}: concept {concept!r}"
        declared = BY_NAME[concept].unit if own else given.get(concept)
        for unit, places in rows_by_unit([stated[row] for row in rows], declared).items():
            if not unit:
                remedy = "state it in a column unit, or say units yaib (--units yaib) if the values are in YAIB's units"
                raise FedkimError(
                    place, found="no unit", expected=BY_NAME[concept].unit, remedy=remedy, code="E-UNIT-MISSING"
                )
            rule = _conversion(concept, unit, place, shown=unit == declared)
            values[rows[places]] = values[rows[places]] * rule.factor + rule.offset
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


def _cells(column: "pandas.Series[Any]") -> list[str]:
    """A column's texts, empty where there is none."""
    return [str(cell).strip() for cell in column.astype(object).where(column.notna(), "")]


def _conversion(concept: str, unit: str | None, place: str, shown: bool = True) -> Conversion:
    """The rule for a unit; one that stood in a cell isn't ``shown`` in the error."""
    if unit is None:
        return Conversion()
    try:
        return conversion(concept, unit)
    except FedkimError as error:
        found = f"unit {unit!r}" if shown else "an unknown unit"
        raise FedkimError(place, found=found, expected=error.expected, remedy="convert it", code=error.code) from None
