"""What the readers of published data sets share: their tables as text, and what a whole copy holds.

Every cell stays a string: ``007`` and ``7`` are two patients, ``NA`` is a name like any other. Cells are stripped and brought to
Unicode's NFC, so that one name has one spelling. Checks tell files, rows, fields and counts, never what stands in a cell.
"""

import csv
import json
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkim.data.findings import Findings
from fedkim.errors import FedkimError

_COPY_AGAIN = "copy the file again from its source"
_COMPLETE = "complete the copy, or leave their rows out of the table"


def text(value: object) -> str:
    """A cell or a JSON value as the text it is known by: ``3`` and ``"3 "`` give ``"3"``, None gives ``""``."""
    return "" if value is None else unicodedata.normalize("NFC", str(value)).strip()


def read_rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV table with at least these columns, every cell through :func:`text`.

    Raises:
        FedkimError: no such file, not UTF-8, a lacking column, or a row with more or fewer cells than the header.
    """
    what = f"table {path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            names = [text(cell) for cell in next(reader, [])]
            for column in columns:
                if column not in names:
                    code = "E-COLUMN"
                    raise FedkimError(what, found=f"no column {column!r}", remedy=_COPY_AGAIN, code=code)
            rows: list[dict[str, str]] = []
            for cells in reader:
                if len(cells) != len(names):
                    found, expected = f"{len(cells)} cells in row {len(rows) + 1}", f"{len(names)}"
                    raise FedkimError(what, found=found, expected=expected, remedy=_COPY_AGAIN, code="E-TABLE")
                rows.append(dict(zip(names, map(text, cells))))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(what, path, error) from None


def read_list(path: Path, keys: Iterable[str]) -> list[dict[str, Any]]:
    """The objects of a JSON list, each with at least these keys; numbers stay the text they are written as.

    Raises:
        FedkimError: no such file, no JSON, not a list of objects, or an object without one of the keys.
    """
    what, wanted = f"file {path}", list(keys)
    try:
        with path.open(encoding="utf-8-sig") as handle:
            entries = json.load(handle, parse_int=str, parse_float=str)
    except (OSError, ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise _unreadable(what, path, error) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FedkimError(what, found="another JSON", expected="a list of objects", code="E-TABLE")
    for row, entry in enumerate(entries, start=1):
        for key in wanted:
            if key not in entry:
                raise FedkimError(f"{what}, entry {row}", found=f"no key {key!r}", remedy=_COPY_AGAIN, code="E-COLUMN")
    return entries


def answered(entry: Mapping[str, Any]) -> bool:
    """Whether a question and its answer hold any text; one that lacks either can't be asked or scored."""
    return bool(text(entry["question"]) and text(entry["answer"]))


def subfolder(root: Path, *names: str) -> Path:
    """``root / name`` of the first of these folders that is there, else ``root`` itself: archives unpack either way."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def plain_name(name: str) -> bool:
    """Whether a file name from a table stays where it is put: relative, without ``..``."""
    path = Path(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def missing_files(paths: Iterable[Path]) -> tuple[int, list[int]]:
    """How many paths there are, and the rows (from 1) of those without a file."""
    there = [path.is_file() for path in paths]
    return len(there), [row for row, is_there in enumerate(there, start=1) if not is_there]


def require_files(paths: Iterable[Path], what: str) -> None:
    """Refuse a copy that lacks pictures.

    Raises:
        FedkimError: tells how many and the first one's row.
    """
    num, missing = missing_files(paths)
    if missing:
        found = f"{len(missing):,} of {num:,} missing, the first in row {missing[0]}"
        raise FedkimError(f"pictures of {what}", found=found, remedy=_COMPLETE, code="E-FILE-MISSING")


class Checker:
    """Collects what is wrong with one copy of a set."""

    def __init__(self) -> None:
        self.findings = Findings()

    def attempt(self, file: str, read: Callable[..., Any], *arguments: Any) -> Any:
        """What ``read(*arguments)`` gives, or None once its error has become a finding of ``file``."""
        try:
            return read(*arguments)
        except FedkimError as error:
            self.findings.add_error(error, file=file, code="E-TABLE")
            return None

    def count(self, file: str, what: str, found: int, expected: int) -> None:
        """``W-COUNT`` where a copy holds other numbers than the known release."""
        if found != expected:
            self.findings.add(
                "W-COUNT",
                file=file,
                field=what,
                found=f"{found:,}",
                expected=f"{expected:,} in the known release",
                remedy="a part of the set, or another release of it",
            )

    def files(self, file: str, paths: Iterable[Path]) -> None:
        """``E-FILE-MISSING``, once, with how many and the first row that names one."""
        num, missing = missing_files(paths)
        if missing:
            found = f"{len(missing):,} of {num:,} pictures missing, this row's the first"
            self.findings.add("E-FILE-MISSING", file=file, row=missing[0], found=found, remedy=_COMPLETE)

    def answered(self, file: str, entries: Iterable[Mapping[str, Any]]) -> None:
        """``W-UNANSWERED``, once, with how many questions are left out and the first one's row."""
        bare = [row for row, entry in enumerate(entries, start=1) if not answered(entry)]
        if bare:
            found = f"{len(bare):,} entries without a question or an answer, which are left out; this row's the first"
            self.findings.add("W-UNANSWERED", file=file, row=bare[0], found=found)

    def unique(self, file: str, field: str, values: Sequence[Hashable]) -> None:
        """``E-DUPLICATE`` where a field that names a row does so twice; rows are counted from 1."""
        seen: dict[Hashable, int] = {}
        repeated = []
        for row, value in enumerate(values, start=1):
            if seen.setdefault(value, row) != row:
                repeated.append(row)
        if repeated:
            found = f"{len(repeated):,} rows named as an earlier one, this the first"
            self.findings.add("E-DUPLICATE", file=file, row=repeated[0], field=field, found=found)

    def disjoint(self, patients: Mapping[str, Iterable[str]], *, code: str, remedy: str) -> None:
        """A finding for each two published splits (a file each) that share a patient or a picture."""
        sets = [(file, frozenset(names)) for file, names in patients.items()]
        for index, (file, names) in enumerate(sets):
            for other, more in sets[index + 1 :]:
                if shared := len(names & more):
                    self.findings.add(code, file=file, found=f"{shared:,} also in {other}", expected="0", remedy=remedy)

    def values(self, file: str, field: str, cells: Iterable[str], allowed: Sequence[str]) -> None:
        """``E-VALUE`` where cells hold what the set's documentation doesn't have."""
        bad = [row for row, cell in enumerate(cells, start=1) if cell not in allowed]
        if bad:
            found, expected = f"{len(bad):,} cells that are something else, this row's the first", _listed(allowed)
            self.findings.add("E-VALUE", file=file, row=bad[0], field=field, found=found, expected=expected)


def files_with(folder: Path, suffix: str) -> list[Path]:
    """The files with this suffix, in any case, in order of their names (``COVID-2`` before ``COVID-10``)."""
    there = [path for path in folder.iterdir() if path.suffix.lower() == suffix] if folder.is_dir() else []
    return sorted(there, key=lambda path: (len(path.stem), path.stem))


def _listed(allowed: Sequence[str]) -> str:
    return " or ".join(repr(value) if value else "nothing" for value in allowed)


def _unreadable(what: str, path: Path, error: Exception) -> FedkimError:
    if isinstance(error, FileNotFoundError):
        packed = path.with_name(f"{path.name}.zip")
        remedy = "check the path, or copy the set again from its source"
        if packed.is_file():  # so Kaggle hands out single tables
            remedy = f"unzip {packed.name} where it lies"
        return FedkimError(what, found="no such file", remedy=remedy, code="E-FILE-MISSING")
    found = f"unreadable ({type(error).__name__})"
    return FedkimError(what, found=found, remedy=_COPY_AGAIN, code="E-TABLE")
