"""Files that may be read: regular ones, of a bearable size, inside the data folder; nothing else is ever opened."""

import os
import stat
import unicodedata
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.errors import FedkimError

LARGEST_TABLE = 1 << 30
"""Bytes of a table: 1 GiB holds tens of millions of cells."""
LARGEST_FILE = 1 << 30
"""Bytes of one image, ECG or stay."""


def open_regular(path: Path, name: str, findings: Findings, *, largest: int) -> bytes | None:
    """A file's bytes; None, and why not among the findings, for anything but a regular file of bearable size.

    The kind is asked of the file that was opened, without waiting for a pipe's other end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        _add(findings, name, error)
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        findings.add("E-FILE-KIND", file=name, found=_kind(status.st_mode), expected="a file")
        return None
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > largest:
            found, expected = f"{status.st_size:,} bytes", f"at most {largest:,}"
            findings.add("E-FILE-SIZE", file=name, found=found, expected=expected, remedy="split the file")
            return None
        try:
            return file.read()
        except OSError as error:
            _add(findings, name, error)
            return None


def confined(folder: Path, name: str) -> Path:
    """The regular file ``name`` below ``folder``, links followed, in whichever form of Unicode it is written there.

    Raises:
        FedkimError: it lies elsewhere, isn't there, isn't a file, or is too large; the name is never repeated.
    """
    what = "a path of the table"
    try:
        root = folder.resolve(strict=True)
        path = _as_written(root, name).resolve()
        outside = not path.is_relative_to(root)
        status = None if outside else path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links (before Python 3.13)
        code, found, remedy = _reason(error)
        raise FedkimError(what, found=found, remedy=remedy, code=code) from None
    if status is None:
        remedy = "copy the file into the data folder; links out of it aren't followed"
        raise FedkimError(
            what,
            found="a file outside the data folder",
            expected="a path below it",
            remedy=remedy,
            code="E-PATH-OUTSIDE",
        )
    if not stat.S_ISREG(status.st_mode):
        raise FedkimError(what, found=_kind(status.st_mode), expected="a file", code="E-FILE-KIND")
    if status.st_size > LARGEST_FILE:
        found, expected = f"{status.st_size:,} bytes", f"at most {LARGEST_FILE:,}"
        raise FedkimError(what, found=found, expected=expected, code="E-FILE-SIZE")
    return path


def _as_written(folder: Path, name: str) -> Path:
    """``folder / name`` with each part in the form that is there: a Mac writes ü as u and a mark, a table's cells have it in one."""
    path = folder
    for part in Path(name).parts:
        forms = dict.fromkeys((part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))))
        path /= next((form for form in forms if os.path.lexists(path / form)), part)
    return path


def _add(findings: Findings, name: str, error: Exception) -> None:
    code, found, remedy = _reason(error)
    findings.add(code, file=name, found=found, remedy=remedy)


def _reason(error: Exception) -> tuple[str, str, str]:
    """Code, words and remedy for why the system refused."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "E-FILE-MISSING", "no such file", "check the path"
    if isinstance(error, PermissionError):
        return "E-FILE-PERMISSION", "a file that may not be read", "fix its permissions"
    if isinstance(error, ValueError):
        return "E-PATH-OUTSIDE", "a name with a NUL character", "take it out"
    return "E-FILE-UNREADABLE", f"a file that can't be opened ({type(error).__name__})", "check its name and the disk"


def _kind(mode: int) -> str:
    for test, word in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return word
    return "a device"
