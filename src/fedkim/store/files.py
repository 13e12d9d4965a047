"""Writing files so that after a crash there is the old content or the new, never half of either."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.failpoints import reach

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin; whatever carries it may be swept."""


def write_atomically(path: Path, write: Callable[[Path], None], *, point: str = "") -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to the disk, then rename it into place.

    Args:
        path: where the file is to stand.
        write: fills the file that it is given.
        point: the fail-points to pass on the way, ``<point>.begin`` to ``<point>.kept``.

    Raises:
        FedkimError: the disk is full or refuses; nothing of the attempt is left, the old file stands.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        _passed(point, "begin")
        write(temporary)
        _passed(point, "written")
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _passed(point, "synced")
        os.replace(temporary, path)
        _passed(point, "renamed")
        sync_folder(path.parent)
        _passed(point, "kept")
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise refused(path, error) from None
        raise


def _passed(point: str, step: str) -> None:
    if point:
        reach(f"{point}.{step}")


def write_text(path: Path, text: str, *, point: str = "") -> None:
    """:func:`write_atomically` for text in UTF-8."""
    write_atomically(path, lambda temporary: _fill(temporary, text.encode()), point=point)


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def refused(path: Path, error: OSError) -> FedkimError:
    """What to say when the system won't write ``path``."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return FedkimError(
        f"writing {path}",
        found=f"{'no room' if full else error.strerror or type(error).__name__}, {free_bytes(path):,} bytes free",
        remedy="make room and run the same command again: it resumes" if full else "check the folder's permissions",
    )


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds the nearest existing folder above ``path``."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def make_folder(folder: Path) -> None:
    """Make a folder, and what is missing above it, so that all of it survives a loss of power."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """A folder that its owner alone may look into, made or closed if it stands there open.

    Raises:
        FedkimError: it can't be made, or is somebody else's.
    """
    try:
        make_folder(folder)
        folder.chmod(0o700)
    except OSError as error:
        found = error.strerror or type(error).__name__
        remedy = "use a folder of this account's own: nobody else may look into it"
        raise FedkimError(f"folder {folder}", found=found, remedy=remedy) from None


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: without it a rename may not survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Delete the unfinished files of processes that died; returns how many there were."""
    leftovers = [path for path in folder.glob(f"{TEMPORARY}*") if path.is_file()]
    for path in leftovers:
        path.unlink()
    return len(leftovers)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON in one fixed form, fit for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: text keys, lists, numbers of numpy and torch as Python's, NaN and infinity as null.

    Raises:
        TypeError: something that JSON has no form for.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"no JSON form for {type(value).__name__}")


def pretty(value: Any) -> str:
    """Indented JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def text_digest(text: str) -> str:
    """sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def cut_torn_line(path: Path) -> None:
    """Cut off the last line where a dying process left it half-written."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with open(path, "rb+") as file:
            file.truncate(whole)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, without lines that a crash tore."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield value
