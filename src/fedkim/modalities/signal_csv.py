"""An ECG as a CSV table: a header of lead names, a number in every cell, a row a sample."""

import re
from pathlib import Path

import numpy as np

from fedkim.errors import FedkimError

_COLUMN = re.compile(r"\s*([\w +-]+?)\s*(?:[\[(]\s*(.*?)\s*[\])])?\s*")
"""A lead's name and its unit: ``V1 [µV]``."""


def read_columns(path: Path, what: str) -> tuple[list[str], list[str], np.ndarray, np.ndarray | None]:
    """Lead names, their units (empty: none stated), the values ``[leads, n]``, and the column of time if there is one.

    Raises:
        FedkimError: missing, not UTF-8, separated by something else than commas, without a header of lead names, ragged, or
            with a cell that is no number.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(1 << 16)
            text = file.read().rstrip()
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="check the path", code="E-FILE-MISSING") from None
    except (OSError, UnicodeDecodeError) as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, expected="a UTF-8 table", code="E-ECG-FORMAT") from None
    body = text.split("\n") if text else []
    columns = [cell.strip().strip('"') for cell in header.rstrip("\n").split(",")]
    if len(columns) == 1 and ";" in header:
        remedy = "export it with commas between the columns"
        raise FedkimError(
            what, found="one column: it looks like ';' separates them", remedy=remedy, code="E-ECG-FORMAT"
        )
    doubled = body[:1] == [""] and not any(line.strip() for line in body[::2])  # line ends that were written twice
    if len(columns) == 1 and not doubled:  # an empty line is a sample that is missing
        body = [line.strip() or "nan" for line in body]
    body = [line for line in body if line.strip()]
    matches = [_COLUMN.fullmatch(column) for column in columns]
    if not all(matches) or any(_is_number(column) for column in columns):
        raise FedkimError(what, found="no header of lead names", expected="such as I,II,V1", code="E-ECG-LEADS")
    try:
        table = np.array([[float(cell) for cell in line.split(",")] for line in body], dtype=np.float64)
    except ValueError:
        ragged = next((n for n, line in enumerate(body, 1) if line.count(",") != len(columns) - 1), None)
        place = f"row {ragged} with another number of columns" if ragged else "a cell that is no number"
        raise FedkimError(what, found=place, expected="a number in every cell", code="E-ECG-FORMAT") from None
    if table.ndim != 2 or table.shape[1] != len(columns):
        raise FedkimError(what, found="no rows, or rows unlike the header", code="E-ECG-FORMAT")
    parts = [match.groups() for match in matches if match]
    clock = next((place for place, (name, _) in enumerate(parts) if name.lower() == "time"), None)
    kept = [place for place in range(len(parts)) if place != clock]
    if not kept:
        raise FedkimError(what, found="no lead", expected="a column for each lead", code="E-ECG-LEADS")
    names, stated = [str(parts[place][0]) for place in kept], [parts[place][1] or "" for place in kept]
    return names, stated, table[:, kept].T, None if clock is None else table[:, clock]


def header_leads(path: Path, what: str) -> tuple[str, ...]:
    """The names of the leads in a table's header.

    Raises:
        FedkimError: it can't be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            columns = [cell.strip().strip('"') for cell in file.readline(1 << 16).rstrip("\n").split(",")]
    except (OSError, UnicodeDecodeError) as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, expected="a UTF-8 table", code="E-ECG-FORMAT") from None
    names = [str(match.group(1)) for column in columns if (match := _COLUMN.fullmatch(column))]
    return tuple(name for name in names if name.lower() != "time")


@np.errstate(invalid="ignore")
def rate_of(times: np.ndarray, what: str) -> float:
    """Samples a second of times in seconds, which may be rounded: 0, 0.003, 0.006, 0.008 are 360 a second.

    A step may be off by a unit of the last decimal (at most half a step) or by 1 %, and a time by half a step and 1 % of what
    lies between it and the nearer end: a lost sample shows in the one, a rate that changes in the other, and a clock may drift.

    Raises:
        FedkimError: times at no even distance.
    """
    steps = np.diff(times)
    step = float(times[-1] - times[0]) / len(steps)
    decimal = _last_decimal(times)
    most = max(min(decimal * (1 + 1 / len(steps)), step / 2), 0.01 * step) + 1e-9
    grid = times[0] + step * np.arange(len(times))
    drift = 0.01 * np.minimum(grid - times[0], times[-1] - grid)
    if not (step > 1e-9 and np.abs(steps - step).max() <= most and (np.abs(times - grid) <= step / 2 + drift).all()):
        remedy = "resample the recording, or write its times with more decimals"
        raise FedkimError(what, found="uneven steps", expected="seconds, evenly", remedy=remedy, code="E-ECG-RATE")
    rate = 1 / step
    doubt = max(0.01, rate * decimal / float(times[-1] - times[0]))  # the first and the last time may be rounded too
    return float(round(rate)) if abs(rate - round(rate)) <= doubt else rate


def _last_decimal(times: np.ndarray) -> float:
    """What the last decimal counts, of up to nine that the times are written with; 0 for more."""
    bearable = 4 * np.spacing(np.abs(times).max())
    exact = (10.0**-places for places in range(10) if np.abs(np.round(times, places) - times).max() <= bearable)
    return next(exact, 0.0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
