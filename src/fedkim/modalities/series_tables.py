"""Tables of intensive-care measurements as hospitals have them, wide or long, in the concepts' names and units.

    wide   stay_id  hour  hr   sbp  crea [µmol/L]      one row an hour; ``time`` (since admission) does for ``hour``
           7        0     81   120  97
    long   stay_id  hour  concept  value  unit         one row a measurement, several an hour allowed
           7        0.4   crea     97     µmol/L

Long tables are condensed to the hour as YAIB's are: the median of a measurement's plausible values, the sum of urine's. A unit stands in the
header, in the column ``unit`` or, where neither has one, in the argument ``units``; another one than the concept's is converted
(:mod:`fedkim.modalities.units`). The tables opened last stay in memory, so that reading their stays one by one costs little.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkim.errors import FedkimError, install_extra, unknown
from fedkim.modalities.series_columns import (
    MOST_HOURS,
    is_long,
    name_and_unit,
    nearly_known,
    renamed,
    require_structure,
    whole_hours,
    widened,
)
from fedkim.modalities.units import BY_NAME

if TYPE_CHECKING:
    import pandas

MOST_COLUMNS = 2000
"""A table with more is none of stays."""
KEPT = 8
"""Tables that stay in memory: a set's cohorts are read in turn, stay by stay."""


@dataclass(frozen=True, kw_only=True)
class Stays:
    """A table as numbers: all 48 concepts in their units and order, a row an hour of a stay."""

    what: str
    values: np.ndarray
    """``[rows, 48]``, NaN where not measured."""
    hours: np.ndarray
    """Whole hours since admission, ``[rows]``."""
    present: frozenset[str]
    """Concepts that have a column, or in a long table a row."""
    overlooked: Mapping[str, str]
    """Names that are nearly a concept's, which aren't read, and the concept that may be meant."""
    rows: Mapping[str, np.ndarray] | None
    """Row positions by stay; None for a table without ``stay_id``."""

    def window(self, stay: int | str | None, until_hour: float, num_hours: int) -> np.ndarray:
        """The ``num_hours`` that end just before ``until_hour``, ``[num_hours, 48]``; hours without a row are NaN.

        Raises:
            FedkimError: no such stay, several and none named, an hour twice, or a window that ends at no whole hour.
        """
        if not (isinstance(until_hour, Real) and float(until_hour).is_integer() and abs(until_hour) <= MOST_HOURS):
            found = f"{until_hour}" if isinstance(until_hour, Real) else type(until_hour).__name__
            raise FedkimError("until_hour", found=found, expected="a whole number of hours, such as 24")
        rows = self._rows_of(stay)
        hours = self.hours[rows]
        if len(np.unique(hours)) != len(hours):
            expected, remedy = "one row an hour", "aggregate by hour"
            what = f"{self.what}: hours"
            raise FedkimError(what, found="an hour twice", expected=expected, remedy=remedy, code="E-SERIES-HOURS")
        place = hours - (int(until_hour) - num_hours)
        inside = (place >= 0) & (place < num_hours) & (hours >= 0)
        window = np.full((num_hours, self.values.shape[1]), np.nan)
        window[place[inside]] = self.values[rows[inside]]
        return window

    def last_hour(self, stay: int | str | None) -> int:
        """The stay's last hour; −1 without a row."""
        hours = self.hours[self._rows_of(stay)]
        return int(hours.max()) if len(hours) else -1

    def _rows_of(self, stay: int | str | None) -> np.ndarray:
        if self.rows is None:
            if stay is not None:
                remedy = "leave out the stay"
                raise FedkimError(self.what, found="no column stay_id", remedy=remedy, code="E-SERIES-STAY")
            return np.arange(len(self.hours))
        if stay is None:
            if len(self.rows) != 1:
                found, remedy = f"{len(self.rows)} stays", "say which stay"
                raise FedkimError(self.what, found=found, expected="one", remedy=remedy, code="E-SERIES-STAY")
            return next(iter(self.rows.values()))
        if str(stay) not in self.rows:
            remedy = "check the stay's number"
            raise FedkimError(self.what, found=f"no stay {stay}", remedy=remedy, code="E-SERIES-STAY")
        return self.rows[str(stay)]


def open_table(
    table: "str | Path | pandas.DataFrame",
    *,
    units: str | Mapping[str, str] = "",
) -> Stays:
    """A table, wide or long.

    Args:
        table: a ``.csv`` or ``.parquet`` file, or a DataFrame, whose index is the hours where it has no column ``hour`` or ``time``.
        units: where the table itself states none: a unit by concept, or ``"yaib"`` for the concepts' own.

    Raises:
        FedkimError: missing or unreadable file, a unit that isn't known, a column twice or without numbers, a long table
            without a unit.
    """
    if isinstance(units, str) and units not in ("", "yaib"):
        raise unknown("set of units", units, ["yaib"])
    declared = units if isinstance(units, str) else tuple(sorted(units.items()))
    if not isinstance(table, str | Path):
        return _stays(_with_hours(table), "table", declared)
    path = Path(table)
    try:
        state = path.stat()
        version = (state.st_mtime_ns, state.st_size)
    except OSError:
        version = (0, 0)  # the reader says what is wrong
    return _open(path, version, declared)


@lru_cache(maxsize=KEPT)
def _open(path: Path, version: tuple[int, int], units: str | tuple[tuple[str, str], ...]) -> Stays:
    what = f"table {path}"
    return _stays(_read(path, what), what, units)


def _with_hours(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """A frame that is no file's: hours of the index as a column, where it has none, and no index that has a column's name."""
    if not {"columns", "index", "assign"} <= set(dir(table)):
        raise FedkimError("table", found=type(table).__name__, expected="a file or a DataFrame")
    table = _named_levels(table)
    levels = table.index.names if len(table.index.names) > 1 else []  # a single one is the hours, whatever it is called
    require_structure([str(name) for name in (*table.columns, *levels)], "table")
    table = table if {"hour", "time"} & set(table.columns) else table.assign(hour=table.index)
    return table.reset_index(drop=True)


def _named_levels(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Stays and hours that stand in an index as columns, where there are none of these names."""
    levels = [name for name in ("stay_id", "hour", "time") if name in table.index.names and name not in table.columns]
    return table.reset_index(level=levels) if levels else table


def _stays(table: "pandas.DataFrame", what: str, units: str | tuple[tuple[str, str], ...]) -> Stays:
    if not len(table):
        found, remedy = "no rows", "export the table anew"
        raise FedkimError(what, found=found, expected="a row an hour", remedy=remedy, code="E-SERIES-EMPTY")
    given = {} if isinstance(units, str) else dict(units)
    for name in given:
        if name not in BY_NAME:
            raise unknown("concept with a unit", name, BY_NAME)
    require_structure(map(str, table.columns), what)
    long = is_long(table)
    words = table["concept"].astype(str).str.strip() if long else [name_and_unit(str(h))[0] for h in table.columns]
    overlooked = nearly_known(sorted(set(words)), BY_NAME)
    table = widened(table, given, bool(units == "yaib"), what) if long else renamed(table, given, what)
    hours = whole_hours(table, what)
    values = np.full((len(table), len(BY_NAME)), np.nan)
    for column, name in enumerate(BY_NAME):
        if name in table.columns:
            values[:, column] = table[name].to_numpy(dtype=np.float64)
    rows = None
    if "stay_id" in table.columns:
        names = _written(table["stay_id"]).astype(str).to_numpy()
        order = np.argsort(names, kind="stable")
        stays, starts = np.unique(names[order], return_index=True)
        rows = {str(stay): group for stay, group in zip(stays, np.split(order, starts[1:]))}
    present = frozenset(BY_NAME) & set(table.columns)
    return Stays(what=what, values=values, hours=hours, present=present, overlooked=overlooked, rows=rows)


def _written(stays: "pandas.Series[Any]") -> "pandas.Series[Any]":
    """Stays as they are named: a column of whole numbers may be kept as floating-point ones."""
    whole = stays.dtype.kind == "f" and np.isfinite(stays).all() and (stays == np.floor(stays)).all()
    return stays.astype("int64") if whole and (np.abs(stays) < 2**53).all() else stays


def _read(path: Path, what: str) -> "pandas.DataFrame":
    try:
        import pandas
    except ImportError:
        raise FedkimError("reading tables needs pandas", remedy=install_extra("icu")) from None
    as_written = dict.fromkeys(("stay_id", "concept", "unit"), str.strip)  # 007 and 7 are two stays, NA is a name
    # the first column is no index where rows have a cell more than the header: that would shift every name
    readers: dict[str, Any] = {
        ".csv": partial(pandas.read_csv, converters=as_written, index_col=False),
        ".parquet": pandas.read_parquet,
    }
    ending = path.suffix.lower()
    if ending not in readers:
        raise FedkimError(what, found=f"ending {path.suffix!r}", expected=".csv or .parquet", code="E-SERIES-FORMAT")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            table = _named_levels(readers[ending](path))
    except pandas.errors.ParserWarning:
        found, remedy = "rows with more cells than the header", "export the table anew, a name for each column"
        raise FedkimError(what, found=found, remedy=remedy, code="E-SERIES-FORMAT") from None
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="check the path", code="E-FILE-MISSING") from None
    except Exception as error:  # pandas and pyarrow raise dozens of kinds
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="export the table anew", code="E-SERIES-FORMAT") from None
    if len(table.columns) > MOST_COLUMNS:
        found = f"{len(table.columns)} columns"
        raise FedkimError(what, found=found, expected=f"at most {MOST_COLUMNS}", code="E-SERIES-FORMAT")
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        remedy = "export it with commas between the columns"
        raise FedkimError(
            what, found="one column: it looks like ';' separates them", remedy=remedy, code="E-SERIES-FORMAT"
        )
    return table
