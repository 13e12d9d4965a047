"""Findings: everything that is wrong with a data set, told at once and without a patient's value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedkim.errors import FedkimError

LISTED = "fedkim data check lists them all"
"""The remedy for a hospital's data."""
SHOWN = 100
"""Findings of one kind printed at most; the rest is counted."""
_PLACE = re.compile(r"(?P<file>(?:/.*?)?)(?:, (?:row|entry) (?P<row>\d+))?(?:: column '(?P<field>[^']+)')?")
"""How an error's ``what`` goes on behind the file that it names."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing noticed in one place.

    The code's first letter says what it means: ``E-`` the data can't be used as it is, ``W-`` it can but one should
    know, ``I-`` for information (``I-DCM-INVERTED``).
    """

    code: str
    """``E-DCM-NO-PIXELS``; stable, documented in ``docs/data/codes.md``."""
    file: str = ""
    row: int | None = None
    """Data row, counted from 1 after the header."""
    field: str = ""
    found: str = ""
    """A type, a shape, a count, a range: never a cell's value."""
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = self.file + (f", row {self.row}" if self.row is not None else "")
        place += f", field {self.field!r}" if self.field else ""
        place = place.removeprefix(", ")
        parts = [part for part in (place, f"found {self.found}" if self.found else "") if part]
        line = f"{self.code} {', '.join(parts)}" + (f", expected {self.expected}" if self.expected else "")
        return f"{line}; {self.remedy}" if self.remedy else line


class Findings:
    """A collector: checks add to it and go on, the end decides."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def add(
        self,
        code: str,
        *,
        file: str = "",
        row: int | None = None,
        field: str = "",
        found: str = "",
        expected: str = "",
        remedy: str = "",
    ) -> None:
        """Note one finding."""
        finding = Finding(code=code, file=file, row=row, field=field, found=found, expected=expected, remedy=remedy)
        self._findings.append(finding)

    def add_error(self, error: FedkimError, *, file: str, code: str) -> None:
        """Note an error about a file, with the row and the column that it names.

        Args:
            error: what reading the file raised.
            file: the file's name, or the end of its path; the error may name one below it.
            code: where the error has none.
        """
        _, _, behind = error.what.rpartition(file)
        place = _PLACE.fullmatch(behind if file in error.what else "")
        below, row, field = place.group("file", "row", "field") if place else ("", None, None)
        self.add(
            error.code or code,
            file=file + below,
            row=int(row) if row else None,
            field=field or "",
            found=error.found or error.what,
            expected=error.expected,
            remedy=error.remedy,
        )

    def put(self, finding: Finding) -> None:
        """Note one that another check has found."""
        self._findings.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def __len__(self) -> int:
        return len(self._findings)

    @property
    def errors(self) -> list[Finding]:
        """Those that forbid using the data."""
        return [finding for finding in self if finding.code.startswith("E-")]

    def raise_for_errors(self, what: str, remedy: str = "") -> None:
        """Refuse if there is any error.

        Raises:
            FedkimError: the first one in full, and how many more there are.
        """
        errors = self.errors
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise FedkimError(f"{what}: {errors[0]}{more}", remedy=remedy)
