"""The tables of a YAIB cohort: hourly intensive care with labels, three parquet files in a folder (van de Water et al., ICLR 2024).

    dyn.parquet    stay_id  time       hr    sbp   …  48 columns, an hour a row, most cells empty
                   141168   0 days 00  119   …
    outc.parquet   stay_id  time       label     (aki, sepsis: hourly; True from 6 h before onset to 6 h after)
    outc.parquet   stay_id  label                (mortality24: one a stay, died in intensive care)
    sta.parquet    stay_id  age  sex  height  weight

There is no patient id: one patient can have several stays and nothing shows it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkim.errors import FedkimError, install_extra
from fedkim.modalities.concepts import CONCEPTS
from fedkim.modalities.series import HOURS, prepare_values

HOURS_BEFORE_ONSET = 6
"""An hourly label turns true so many hours before the onset itself."""
FULL_LABEL = 2 * HOURS_BEFORE_ONSET + 1
"""Hours a label stays true: six before the onset, the onset, six after."""

_NAMES = tuple(concept.name for group in CONCEPTS.values() for concept in group)


@dataclass(frozen=True, kw_only=True)
class Hourly:
    """The measurements of many stays, one dense table each."""

    values: Mapping[str, np.ndarray]
    """Stay (``"eicu/141168"``) → ``[hours, 48]`` in the concepts' units and order, NaN where not measured."""

    def window(self, stay: str, until_hour: int = HOURS) -> np.ndarray:
        """The 24 hours that end just before ``until_hour``, ``[24, 48]``; hours before admission are NaN."""
        values = self.values[stay][max(0, until_hour - HOURS) : until_hour]
        out = np.full((HOURS, values.shape[1]), np.nan)
        first = HOURS - min(until_hour, HOURS)  # the window's last row is the hour before until_hour
        out[first : first + len(values)] = values
        return out

    def measured(self, stay: str, concept: str) -> np.ndarray:
        """The plausible measurements of one concept in the first 24 hours, in order of time."""
        column = self.values[stay][:HOURS, _NAMES.index(concept)]
        record = next(c for group in CONCEPTS.values() for c in group if c.name == concept)
        return column[(column >= record.low) & (column <= record.high)]


@dataclass(frozen=True, kw_only=True)
class Course:
    """When a condition begins in a stay, if it does."""

    last_hour: int
    """Last hour observed."""
    onset: int | None
    """Hour of onset: first positive hour + 6; None for a stay without."""
    usable: bool = True
    """False where the onset can't be dated: the label is true from admission on and shorter than it should be."""


def read_hourly(folder: Path, source: str) -> Hourly:
    """The measurements of all stays of one cohort, ``dyn.parquet`` of its folder.

    Args:
        folder: of the cohort, such as ``aki/eicu_demo``.
        source: put before each stay's number, ``"eicu"`` → ``"eicu/141168"``.

    Raises:
        FedkimError: the table is missing or unreadable, lacks a column, isn't numeric or isn't one row an hour from 0 on.
    """
    path = Path(folder) / "dyn.parquet"
    table = read_table(path, ("stay_id", "time", *_NAMES))
    what = f"table {path}"
    # R calls a column without any value a logical one
    empty = {name for name in _NAMES if table[name].dtype.kind == "O" and table[name].isna().all()}
    text = [name for name in _NAMES if table[name].dtype.kind not in "fiu" and name not in empty]
    if text:
        raise FedkimError(
            f"{what}: column {text[0]!r}",
            found="no numbers",
            expected="numbers, empty where not measured",
            code="E-SERIES-TEXT",
        )
    if not len(table):
        raise FedkimError(what, found="no row", expected="a row an hour of each stay", code="E-TABLE")
    numbers = table[list(_NAMES)].to_numpy(dtype=np.float64)
    if np.isinf(numbers).any():
        raise FedkimError(what, found="an infinite value", expected="numbers, empty where not measured", code="E-VALUE")
    return Hourly(values={f"{source}/{stay}": numbers[rows] for stay, rows in _rows_by_stay(table, what)})


def read_outcomes(folder: Path, source: str) -> dict[str, bool]:
    """Stay → its one label (``mortality24``: died in intensive care), ``outc.parquet`` of the folder.

    Raises:
        FedkimError: the table is missing or unreadable, or holds other labels than 0 and 1 or a stay twice.
    """
    path = Path(folder) / "outc.parquet"
    table = read_table(path, ("stay_id", "label"))
    if not table["label"].isin([0, 1]).all() or table["stay_id"].duplicated().any():
        raise FedkimError(
            f"table {path}",
            found="other labels than 0 and 1, or a stay twice",
            expected="one label a stay",
            code="E-VALUE",
        )
    return {f"{source}/{stay}": bool(label) for stay, label in zip(table["stay_id"], table["label"])}


def read_courses(folder: Path, source: str) -> dict[str, Course]:
    """Stay → its course, for the hourly labels of ``aki`` or ``sepsis``.

    Raises:
        FedkimError: the table is missing or unreadable, has gaps, other labels or isn't one row an hour.
    """
    path = Path(folder) / "outc.parquet"
    table = read_table(path, ("stay_id", "time", "label"))
    if table["label"].isna().any() or not table["label"].isin([0, 1]).all():
        raise FedkimError(
            f"table {path}: column 'label'", found="gaps or other values", expected="true or false", code="E-VALUE"
        )
    labels = table["label"].to_numpy(dtype=bool)
    return {f"{source}/{stay}": _course(labels[rows]) for stay, rows in _rows_by_stay(table, f"table {path}")}


def check_same_stays(folder: Path, labelled: Iterable[str], measured: Iterable[str]) -> None:
    """Refuse tables of one task that speak of different stays."""
    differing = set(labelled) ^ set(measured)
    if differing:
        raise FedkimError(
            f"tables in {folder}",
            found=f"{len(differing)} stays that only one of dyn and outc has",
            expected="the same stays",
            remedy="take both tables from one release",
            code="E-CONTRADICTION",
        )


def tensors(windows: Iterable[np.ndarray]) -> dict[str, Tensor]:
    """Raw windows ``[24, 48]`` as one ``[N, 24, 2F]`` per modality, prepared exactly as ``predict`` does."""
    made: dict[str, list[Tensor]] = {modality: [] for modality in CONCEPTS}
    for window in windows:
        first = 0
        for modality, concepts in CONCEPTS.items():
            made[modality].append(prepare_values(window[:, first : first + len(concepts)], concepts))
            first += len(concepts)
    return {modality: torch.stack(rows) for modality, rows in made.items() if rows}


def _course(labels: np.ndarray) -> Course:
    positive = np.flatnonzero(labels)
    last = len(labels) - 1
    if len(positive) == 0:
        return Course(last_hour=last, onset=None)
    onset = int(positive[0]) + HOURS_BEFORE_ONSET
    dated = positive[0] > 0 or len(positive) == FULL_LABEL
    return Course(last_hour=last, onset=onset, usable=bool(dated and onset <= last))


def read_table(path: Path, columns: tuple[str, ...]) -> Any:
    """A parquet table that has these columns.

    Raises:
        FedkimError: pandas is missing, or the table is missing, unreadable or lacks a column.
    """
    try:
        import pandas
    except ImportError:
        raise FedkimError("reading ICU tables needs pandas and pyarrow", remedy=install_extra("icu")) from None
    what = f"table {path}"
    try:
        table = pandas.read_parquet(path)
    except FileNotFoundError:
        raise FedkimError(
            what, found="no such file", remedy="give the cohort's whole folder", code="E-FILE-MISSING"
        ) from None
    except Exception as error:  # pandas and pyarrow raise dozens of kinds
        found, remedy = f"unreadable ({type(error).__name__})", "copy the table again from its source"
        raise FedkimError(what, found=found, remedy=remedy, code="E-SERIES-FORMAT") from None
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        found, remedy = f"no column {lacking[0]!r}", "take the table as YAIB publishes it"
        raise FedkimError(what, found=found, remedy=remedy, code="E-SERIES-COLUMN")
    return table


def _rows_by_stay(table: Any, what: str) -> list[tuple[str, np.ndarray]]:
    """Each stay with the positions of its rows in order of the hour; the hours must be 0, 1, 2, … without a gap."""
    times = table["time"]
    hours = times.dt.total_seconds() / 3600 if times.dtype.kind == "m" else times
    if hours.dtype.kind not in "fiu" or hours.isna().any():
        raise FedkimError(
            f"{what}: column 'time'",
            found="no hours",
            expected="time since admission, a row an hour",
            code="E-SERIES-HOURS",
        )
    if table["stay_id"].isna().any():
        expected = "a stay in each row"
        raise FedkimError(f"{what}: column 'stay_id'", found="empty cells", expected=expected, code="E-VALUE")
    stays, hour = table["stay_id"].astype(str).to_numpy(dtype=str), hours.to_numpy(dtype=np.float64)
    order = np.lexsort((hour, stays))
    names, starts = np.unique(stays[order], return_index=True)
    groups = np.split(order, starts[1:])
    for rows in groups:
        if not np.array_equal(hour[rows], np.arange(len(rows))):
            raise FedkimError(
                f"{what}: column 'time'",
                found="hours missing or twice",
                expected="0, 1, 2, … in each stay",
                code="E-SERIES-HOURS",
            )
    return [(str(name), rows) for name, rows in zip(names, groups)]
