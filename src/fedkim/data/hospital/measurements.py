"""Cells of a table of stays as numbers: decimal signs, sentinels, and every cell that is none of them told."""

import math
import re
from collections import Counter

import numpy as np

from fedkim.data.findings import Findings
from fedkim.data.hospital.layout import Layout
from fedkim.data.hospital.table import Table
from fedkim.data.hospital.words import counted

_NUMBER = re.compile(r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?", re.ASCII)
_COMMA = re.compile(r"[-+]?\d{1,40},\d{1,40}", re.ASCII)
_NO_NUMBER = ("nan", "inf", "-inf", "+inf", "infinity", "-infinity")


def as_numbers(
    table: Table, header: str, layout: Layout, findings: Findings, wanted: np.ndarray | None = None
) -> np.ndarray:
    """A column as float64; NaN where nothing was measured, with a finding for what is no number."""
    counts, first = Counter[str](), dict[str, int]()
    values = np.full(table.num_rows, np.nan)
    words = [_pointed(word, layout) for word in layout.sentinels]
    sentinels = set(layout.sentinels) | {_float(word) for word in words if _NUMBER.fullmatch(word)}
    for row, cell in enumerate(table.columns[header]):
        if cell in layout.missing or (wanted is not None and not wanted[row]):
            continue
        word = _pointed(cell, layout)
        if layout.decimal == "," and "." in cell and header not in table.native and cell not in sentinels:
            counts["point"] += 1  # 1.250 may be a thousand and more
            first.setdefault("point", row + 1)
            continue
        if _NUMBER.fullmatch(word):
            number = _float(word)
            if number in sentinels:
                counts["sentinel"] += 1
            elif math.isfinite(number):
                values[row] = number
            else:
                counts["endless"] += 1
            continue
        kind = "number"
        if cell in sentinels:
            kind = "sentinel"
        elif cell.lower() in _NO_NUMBER:
            kind = "endless"
        elif _COMMA.fullmatch(cell):
            kind = "comma"
        counts[kind] += 1
        first.setdefault(kind, row + 1)
    for kind, (code, found, expected, remedy) in _KINDS.items():
        if counts[kind]:
            row_number = first.get(kind) if code.startswith("E-") else None
            findings.add(
                code, file=table.name, row=row_number, field=header, found=f"{counted(counts[kind], 'cell')} {found}", expected=expected,
                remedy=remedy,
            )  # fmt: skip
    return values


_KINDS = {
    "sentinel": ("I-SERIES-SENTINEL", "declared in data.series.sentinels", "", "counted as not measured"),
    "endless": ("W-SERIES-NONFINITE", "with NaN or infinity", "", "counted as not measured"),
    "point": (
        "E-SERIES-DECIMAL",
        "with a point beside a declared decimal comma",
        "a comma, and nothing between thousands",
        "export without them",
    ),
    "comma": ("E-SERIES-DECIMAL", "with a decimal comma", "a point", 'declare decimal = "," if it is one'),
    "number": ("E-SERIES-NUMBER", "without a number", "numbers", "declare the words in data.series.sentinels"),
}


def _pointed(cell: str, layout: Layout) -> str:
    return cell.replace(",", ".") if layout.decimal == "," and "." not in cell else cell


def _float(word: str) -> float:
    try:
        return float(word)
    except (ValueError, OverflowError):
        return math.nan
