"""Table: a CSV or parquet file read strictly, every cell as text; nothing is guessed and no row is dropped.

A column of ids that a spreadsheet or a data frame library has read as numbers has merged patients: ``007`` and ``7``.
Here cells stay the text that they are, in Unicode's composed form (NFC), with the spaces around them taken off and counted.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.hospital.files import LARGEST_TABLE, open_regular
from fedkim.data.hospital.words import counted
from fedkim.errors import install_extra

MOST_COLUMNS = 10_000
LARGEST_CELL = 1 << 20
"""Characters of a cell: a report of 1 MB is longer than any that a doctor wrote."""
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as text, column by column."""

    name: str
    columns: Mapping[str, list[str]]
    """By header, one cell a row."""
    num_rows: int
    numeric: frozenset[str] = field(default_factory=frozenset)
    """Columns that the file itself holds as fractions (parquet): no place for an id."""
    native: frozenset[str] = field(default_factory=frozenset)
    """Columns of numbers that are the file's own (parquet) and not typed."""


def read_table(
    path: Path, findings: Findings, *, encoding: str = "utf-8", delimiter: str = ",", name: str = ""
) -> Table | None:
    """The table at ``path``, or None with the reasons among the findings."""
    name = name or path.name
    content = open_regular(path, name, findings, largest=LARGEST_TABLE)
    if content is None:
        return None
    if path.suffix.lower() == ".parquet":
        return _from_parquet(content, name, findings)
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        remedy = "export the table as CSV (UTF-8)"
        findings.add(
            "E-TABLE-FORMAT", file=name, found="another kind of file", expected=".csv or .parquet", remedy=remedy
        )
        return None
    text = _decoded(content, encoding, name, findings)
    return None if text is None else _from_csv(text, delimiter, name, findings)


def _decoded(content: bytes, encoding: str, name: str, findings: Findings) -> str | None:
    if content[:4] == b"PAR1" or content[:4] == b"PK\x03\x04":
        found = "a parquet file" if content[:4] == b"PAR1" else "a spreadsheet or archive"
        findings.add(
            "E-TABLE-FORMAT", file=name, found=found, expected="text", remedy="export the table as CSV (UTF-8)"
        )
        return None
    mark = next((word for start, word in _MARKS.items() if content.startswith(start)), "")
    if mark and not (mark == "UTF-16" and encoding == "utf-16"):
        remedy = "save it as CSV UTF-8" + (', or declare encoding = "utf-16"' if mark == "UTF-16" else "")
        findings.add(
            "E-TABLE-ENCODING", file=name, found=f"{mark} (its byte-order mark)", expected=encoding, remedy=remedy
        )
        return None
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        found = f"a byte that isn't {encoding} at offset {error.start}"
        remedy = 'save it as CSV UTF-8, or declare its encoding (such as encoding = "latin-1")'
        findings.add("E-TABLE-ENCODING", file=name, found=found, expected=encoding, remedy=remedy)
        return None
    for code, pattern, word in (
        ("E-TABLE-NUL", re.compile("\0"), "NUL"),
        ("E-TABLE-BIDI", _BIDI, "direction override"),
    ):
        match = pattern.search(text)
        if match:
            offset = len(text[: match.start()].encode(encoding, errors="replace"))
            found = f"{counted(len(pattern.findall(text)), f'{word} character')}, the first at byte {offset}"
            findings.add(
                code, file=name, found=found, expected="none", remedy="take them out, and look at how they came in"
            )
            return None
    return text


def _from_csv(text: str, delimiter: str, name: str, findings: Findings) -> Table | None:
    with _long_cells():
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        before = len(findings)
        header = _next(rows, 0, name, findings)
        if header is None:
            if len(findings) == before:
                findings.add("E-TABLE-EMPTY", file=name, found="an empty file", expected="a header and rows")
            return None
        headers = _headers(header, delimiter, name, findings)
        if headers is None:
            return None
        columns: list[list[str]] = [[] for _ in headers]
        ragged, number, spaces, composed = 0, 0, 0, 0
        while True:
            row = _next(rows, number + 1, name, findings)
            if row is None:
                break
            number += 1
            if len(row) != len(headers):
                ragged += 1
                found, expected = counted(len(row), "cell"), f"{len(headers)}"
                remedy = "cells that hold the delimiter or a line break stand in quotes"
                findings.add("E-TABLE-RAGGED", file=name, row=number, found=found, expected=expected, remedy=remedy)
                row = [*row, *[""] * len(headers)][: len(headers)]
            for column, cell in zip(columns, row, strict=True):
                if len(cell) > LARGEST_CELL:
                    found, expected = f"{len(cell):,} characters", f"at most {LARGEST_CELL:,} in a cell"
                    findings.add("E-TABLE-CELL", file=name, row=number, found=found, expected=expected)
                    cell = ""
                clean = cell.strip()
                spaces += clean != cell
                if not clean.isascii():
                    clean, written = unicodedata.normalize("NFC", clean), clean
                    composed += clean != written
                column.append(clean)
    _count(findings, "I-TABLE-SPACES", name, spaces, "cell", "with spaces around it", "the spaces were taken off")
    _count(findings, "I-TABLE-NFC", name, composed, "cell", "in a decomposed form of Unicode", "it was composed (NFC)")
    return Table(name=name, columns=dict(zip(headers, columns, strict=True)), num_rows=number)


def _next(rows: Iterator[list[str]], number: int, name: str, findings: Findings) -> list[str] | None:
    """The next line that isn't empty; None at the end, or (with a finding) where the quoting breaks."""
    try:
        for row in rows:
            if row:
                return row
    except csv.Error:
        found = "quotes that don't fit"
        remedy = "a quote inside a quoted cell is doubled, and every quote is closed"
        findings.add("E-TABLE-QUOTES", file=name, row=number or None, found=found, remedy=remedy)
    return None


def _headers(header: list[str], delimiter: str, name: str, findings: Findings) -> list[str] | None:
    headers = [unicodedata.normalize("NFC", cell.strip()) for cell in header]
    if len(headers) > MOST_COLUMNS:
        found, expected = f"{len(headers):,} columns", f"at most {MOST_COLUMNS:,}"
        findings.add(
            "E-TABLE-COLUMNS", file=name, found=found, expected=expected, remedy="keep the columns that are declared"
        )
        return None
    if len(headers) == 1:
        other = next((mark for mark in ";\t|," if mark != delimiter and mark in headers[0]), "")
        if other:
            remedy = f"declare delimiter = {other!r}".replace("'", '"')
            findings.add(
                "E-TABLE-DELIMITER",
                file=name,
                found=f"one column; looks like {other!r}",
                expected=repr(delimiter),
                remedy=remedy,
            )
            return None
    places: dict[str, list[int]] = {}
    for place, cell in enumerate(headers, 1):
        places.setdefault(cell, []).append(place)
    for cell, numbers in places.items():
        if len(numbers) > 1 and cell:
            found = f"one header in columns {' and '.join(map(str, numbers[:5]))}"
            findings.add("E-TABLE-HEADER", file=name, found=found, expected="each once", remedy="rename all but one")
            return None
    # columns without a header can't be declared, so they need no name that is stable
    return [cell or f"\0{place}" for place, cell in enumerate(headers, 1)]


def _from_parquet(content: bytes, name: str, findings: Findings) -> Table | None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        remedy = install_extra("tables")
        findings.add(
            "E-TABLE-FORMAT", file=name, found="a parquet file without pyarrow", expected="pyarrow", remedy=remedy
        )
        return None
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        names = list(file.schema_arrow.names)
        table = file.read() if len(set(names)) == len(names) and len(names) <= MOST_COLUMNS else None
        if table is not None:
            columns = {column: [_as_text(value) for value in table[column].to_pylist()] for column in names}
    except Exception as error:  # pyarrow raises dozens of kinds
        found = f"a damaged file ({type(error).__name__})"
        findings.add("E-TABLE-FORMAT", file=name, found=found, expected="a parquet table", remedy="export it anew")
        return None
    if table is None:
        findings.add("E-TABLE-HEADER", file=name, found="one name twice, or too many columns", expected="each once")
        return None
    numeric = frozenset(column for column in names if pyarrow.types.is_floating(table.schema.field(column).type))
    kinds = (pyarrow.types.is_floating, pyarrow.types.is_integer, pyarrow.types.is_decimal)
    native = frozenset(column for column in names if any(kind(table.schema.field(column).type) for kind in kinds))
    return Table(name=name, columns=columns, num_rows=table.num_rows, numeric=numeric, native=native)


def _as_text(value: object) -> str:
    return "" if value is None else unicodedata.normalize("NFC", str(value).strip())


def _count(findings: Findings, code: str, name: str, number: int, noun: str, found: str, remedy: str) -> None:
    if number:
        findings.add(code, file=name, found=f"{counted(number, noun)} {found}", remedy=remedy)


@contextmanager
def _long_cells() -> Iterator[None]:
    """The csv module's limit on a cell, raised: it belongs to the process, so it is put back."""
    before = csv.field_size_limit(LARGEST_TABLE)
    try:
        yield
    finally:
        csv.field_size_limit(before)
