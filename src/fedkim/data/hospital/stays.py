"""Stays: an hourly table, wide or long, in declared units, as measurements by stay; strict about every number.

wide, a column a measurement::

    stay_id,hour,hr [beats/min],Kreatinin
    4711,0,88,1.1

long, a row a measurement::

    stay_id,hour,concept,value,unit
    4711,0.5,hr,88,beats/min

Of several plausible values in one hour the median counts, of urine the sum, as in every other table of stays. Unlike
:mod:`fedkim.modalities.series_tables`, which reads one patient's table, this notes everything that is wrong.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from fedkim.data.findings import Findings
from fedkim.data.hospital.layout import UNIT, Layout
from fedkim.data.hospital.measurements import as_numbers
from fedkim.data.hospital.table import Table, read_table
from fedkim.data.hospital.words import counted
from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS
from fedkim.modalities.series import HOURS, prepare_values
from fedkim.modalities.series_columns import MOST_HOURS, SUMMED, name_and_unit, nearly_known, rows_by_unit
from fedkim.modalities.units import BY_NAME, Conversion, conversion


@dataclass(frozen=True, kw_only=True)
class Stays:
    """Measurements of a table in our units: by stay and concept, ``(hours, values)`` in the order of the table."""

    by_stay: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
    present: frozenset[str] = frozenset()
    """Concepts that have a column, or in a long table a row."""
    nearly: Mapping[str, str] = field(default_factory=dict)
    """Names that are nearly a measurement's, which aren't read, and that one's."""
    findings: Findings = field(default_factory=Findings)

    def tensors(self, stay: str, until_hour: int) -> dict[str, Tensor]:
        """The 24 hours before ``until_hour`` of one stay, ``[24, 2F]`` for every modality, zeros where nothing was measured.

        Raises:
            FedkimError: no such stay, nothing plausible in the window.
        """
        if stay not in self.by_stay:
            raise FedkimError(
                "a stay", found="none of that id in the table", remedy="check the id", code="E-SERIES-STAY"
            )
        tensors = {}
        for modality, concepts in CONCEPTS.items():
            values = np.full((HOURS, len(concepts)), np.nan)
            for column, concept in enumerate(concepts):
                hours, measured = self.by_stay[stay].get(concept.name, (np.empty(0), np.empty(0)))
                # a zero of a sensor that fell off is no half of a median
                plausible = (measured >= concept.low) & (measured <= concept.high)
                hours, measured = hours[plausible], measured[plausible]
                places = np.floor(np.clip(hours, -MOST_HOURS, MOST_HOURS)).astype(int) - (until_hour - HOURS)
                for place in np.unique(places[(places >= 0) & (places < HOURS) & (hours >= 0)]):
                    inside = measured[places == place]
                    values[place, column] = inside.sum() if concept.name in SUMMED else np.median(inside)
            tensors[modality] = prepare_values(values, concepts)
        if not any(tensor.any() for tensor in tensors.values()):
            remedy = "check its hours and units"
            raise FedkimError(
                "a stay", found="no plausible measurement in the window", remedy=remedy, code="E-SERIES-EMPTY"
            )
        return tensors


def read_stays(path: Path, layout: Layout, name: str = "") -> Stays:
    """The stays in the table at ``path``, with all that is wrong with it; read once per content and process.

    Findings name the table as its first reader did: ``name``, or ``a table of a stay`` where its own may be a patient's.
    """
    status = path.stat()
    key = (path, layout, status.st_mtime_ns, status.st_size)
    with _READING:
        if key not in _kept:
            while len(_kept) >= _TABLES:
                del _kept[next(iter(_kept))]
            _kept[key] = _read(path, layout, name or "a table of a stay")
        return _kept[key]


_TABLES = 4
_READING = threading.Lock()
_kept: dict[tuple[Path, Layout, int, int], Stays] = {}


def _read(path: Path, layout: Layout, name: str) -> Stays:
    findings = Findings()
    table = read_table(path, findings, encoding=layout.encoding, delimiter=layout.delimiter, name=name)
    return Stays(by_stay={}, findings=findings) if table is None else _parsed(table, layout, findings)


def _parsed(table: Table, layout: Layout, findings: Findings) -> Stays:
    needed = [layout.hour, *([layout.stay] if layout.stay else [])]
    if layout.form == "long":
        needed += [layout.concept, layout.value, *([layout.unit] if layout.unit not in ("", UNIT) else [])]
    absent = [header for header in needed if header not in table.columns]
    for header in absent:
        found = f"{counted(len(table.columns), 'column')}, none of that name"
        findings.add("E-SERIES-COLUMN", file=table.name, field=header, found=found, remedy="correct [data.series]")
    wanted = layout.form == "long" and layout.unit == UNIT and UNIT not in table.columns
    for header in [name for name in table.columns if name.casefold() == UNIT] if wanted else ():
        found, expected = "a name that is the column of units' but for its capitals", repr(UNIT)
        remedy = f'data.series.unit = {header!r}, or "" if it holds something else'
        findings.add("E-SERIES-COLUMN", file=table.name, field=header, found=found, expected=expected, remedy=remedy)
        absent.append(header)
    for header in [name for name in table.columns if name.casefold() == "stay_id"] if not layout.stay else ():
        if len(set(table.columns[header])) > 1:
            found, expected = "several stays in a table of one", "a file of each stay's own"
            remedy = "name the table in data.series.file, and each row's stay in data.columns.stay"
            findings.add("E-SERIES-STAY", file=table.name, field=header, found=found, expected=expected, remedy=remedy)
            absent.append(header)
    if absent:
        return Stays(by_stay={}, findings=findings)
    unread = Findings()  # told as hours: the remedies for measurements don't help
    hours = as_numbers(table, layout.hour, replace(layout, sentinels=()), unread)  # hour 0 may be, where a 0 means off
    wrong = int((~np.isfinite(hours)).sum())
    for finding in unread:
        if finding.code == "E-SERIES-DECIMAL":
            findings.put(finding)
    if wrong:
        found, expected = f"{counted(wrong, 'row')} without a number", "hours since admission: 0, 1, 2.5"
        row, remedy = int(np.flatnonzero(~np.isfinite(hours))[0]) + 1, "count dates and times from the admission"
        findings.add(
            "E-SERIES-HOURS", file=table.name, row=row, field=layout.hour, found=found, expected=expected, remedy=remedy
        )
        return Stays(by_stay={}, findings=findings)
    stays = table.columns[layout.stay] if layout.stay else [""] * table.num_rows
    _tell_repeated(table, layout, findings)
    cells = _long(table, layout, findings) if layout.form == "long" else _wide(table, layout, findings)
    gathered: dict[str, dict[str, tuple[list[float], list[float]]]] = {stay: {} for stay in stays}
    for concept, (rows, values) in cells.items():
        for row, value in zip(rows.tolist(), values.tolist()):
            here = gathered[stays[row]].setdefault(concept, ([], []))
            here[0].append(hours[row])
            here[1].append(value)
    by_stay = {
        stay: {concept: (np.array(when), np.array(what)) for concept, (when, what) in measured.items()}
        for stay, measured in gathered.items()
    }
    ours = _theirs_to_ours(layout)
    names = table.columns[layout.concept] if layout.form == "long" else [name_and_unit(h)[0] for h in table.columns]
    nearly = nearly_known(sorted(set(names)), ours)
    return Stays(by_stay=by_stay, present=frozenset(cells), nearly=nearly, findings=findings)


def _tell_repeated(table: Table, layout: Layout, findings: Findings) -> None:
    """Rows that say the same cell for cell, where that adds amounts up twice."""
    ours = _theirs_to_ours(layout)
    names = table.columns[layout.concept] if layout.form == "long" else [name_and_unit(h)[0] for h in table.columns]
    amounts = {name for name in {*names, *table.columns} if ours.get(name) in SUMMED}
    if not amounts:
        return
    of = [layout.concept] if layout.form == "long" else [h for h in table.columns if {h, name_and_unit(h)[0]} & amounts]
    meant = zip(*(table.columns[header] for header in of))
    rows = Counter(
        row
        for row, cells in zip(zip(*table.columns.values()), meant)
        if (cells[0] in amounts if layout.form == "long" else any(cell not in layout.missing for cell in cells))
    )
    again = sum(rows.values()) - len(rows)
    if again:
        found = f"{counted(again, 'row')} that repeat another, and an amount among them"
        remedy = "each counts; take them out if the export wrote them twice"
        findings.add("W-SERIES-TWICE", file=table.name, field=layout.hour, found=found, remedy=remedy)


def _theirs_to_ours(layout: Layout) -> dict[str, str]:
    """Our names of measurements by the table's."""
    named = dict(layout.columns)
    return {named.get(concept, concept): concept for concept in BY_NAME}


def _wide(table: Table, layout: Layout, findings: Findings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows and values in our units by concept."""
    units, theirs_to_ours = dict(layout.units), _theirs_to_ours(layout)
    cells: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for header in table.columns:
        name, unit = name_and_unit(header)
        concept = theirs_to_ours.get(header) or theirs_to_ours.get(name)
        if concept is None:
            continue
        if header in theirs_to_ours and not _converts(concept, unit):
            unit = None  # the site file names it whole: its brackets may hold something else
        if concept in cells:
            found = "two columns of one measurement"
            findings.add(
                "E-SERIES-COLUMN", file=table.name, field=concept, found=found, expected="one", remedy="keep one"
            )
            continue
        rule = _rule(concept, units.get(concept) if unit is None else unit, table.name, findings)
        values = as_numbers(table, header, layout, findings)
        if rule is not None:
            rows = np.flatnonzero(np.isfinite(values))
            cells[concept] = (rows, _plausible(values[rows] * rule.factor + rule.offset, concept, table.name, findings))
    if not cells and not findings.errors:
        expected = "such as hr, sbp, crea, urine"
        remedy = "name yours in [data.series.columns]"
        findings.add("E-SERIES-COLUMN", file=table.name, found="no known measurement", expected=expected, remedy=remedy)
    return cells


def _long(table: Table, layout: Layout, findings: Findings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    units, theirs_to_ours = dict(layout.units), _theirs_to_ours(layout)
    concepts = [theirs_to_ours.get(word) for word in table.columns[layout.concept]]
    wanted = np.array([concept is not None for concept in concepts], dtype=bool)
    values = as_numbers(table, layout.value, layout, findings, wanted)
    other = int((~wanted).sum())
    if other:
        found, remedy = (
            f"{counted(other, 'row')} of other measurements",
            "they are left out; name yours in [data.series.columns]",
        )
        findings.add("I-SERIES-OTHER", file=table.name, field=layout.concept, found=found, remedy=remedy)
    stated = ["" if cell in layout.missing else cell for cell in table.columns.get(layout.unit, [""] * table.num_rows)]
    cells = {}
    for concept in sorted({concept for concept in concepts if concept}):
        mine = np.array([name == concept for name in concepts], dtype=bool)
        rows = np.flatnonzero(mine & np.isfinite(values))
        numbers = values[rows]
        by_unit = rows_by_unit([stated[row] for row in rows], units.get(concept))
        told: set[bool] = set()  # a column of notes would be a finding for each of them
        for unit, places in by_unit.items():
            here = Findings() if bool(unit) in told else findings
            rule = _rule(concept, unit or None, table.name, here, int(rows[places[0]]) + 1)
            told |= {bool(unit)} if rule is None else set()
            numbers[places] = np.nan if rule is None else numbers[places] * rule.factor + rule.offset
        cells[concept] = (rows, _plausible(numbers, concept, table.name, findings))
    if not cells and not findings.errors:
        remedy = "name yours in [data.series.columns]"
        findings.add("E-SERIES-COLUMN", file=table.name, found="no known measurement", remedy=remedy)
    return cells


def _converts(concept: str, unit: str | None) -> bool:
    try:
        conversion(concept, unit or "")
    except FedkimError:
        return False
    return True


def _rule(concept: str, unit: str | None, name: str, findings: Findings, row: int | None = None) -> Conversion | None:
    """How values in a unit get into the concept's own; ``row`` is the first of a long table that is in it."""
    own = BY_NAME[concept].unit
    if unit is None:
        where = f'in the header, "{concept} [{own}]"' if row is None else "in a column of units (data.series.unit)"
        remedy = f'declare it, data.series.units = {{ {concept} = "…" }}, or {where}'
        findings.add("E-UNIT-MISSING", file=name, row=row, field=concept, found="no unit", expected=own, remedy=remedy)
        return None
    try:
        return conversion(concept, unit)
    except FedkimError as error:
        found = "a unit without a conversion"
        remedy = (
            "convert it"
            if row is None
            else "convert it; data.series.unit says which column holds units, data.missing which words mean none"
        )
        findings.add(error.code, file=name, row=row, field=concept, found=found, expected=error.expected, remedy=remedy)
        return None


def _plausible(values: np.ndarray, concept: str, name: str, findings: Findings) -> np.ndarray:
    """The values as they are; those outside of the plausible range, which no hour's value is made of, are counted."""
    low, high = BY_NAME[concept].low, BY_NAME[concept].high
    outside = int(((values < low) | (values > high)).sum())
    if outside:
        found, expected = f"{outside} of {len(values)} values outside", f"{low:g} to {high:g} {BY_NAME[concept].unit}"
        remedy = "they count as not measured; declare sentinels and units"
        findings.add("W-SERIES-RANGE", file=name, field=concept, found=found, expected=expected, remedy=remedy)
    return values
