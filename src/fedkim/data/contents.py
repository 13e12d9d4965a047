"""Contents: the sha256 of files, remembered so that an unchanged file isn't read again.

A file counts as unchanged if its size, inode and both of its times are what they were, as in git's index. A file written
within two seconds of being hashed isn't remembered: a later change could hide in the same tick of the clock. Whoever can
set a file's change time can fool this, and can as well write the cache.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError

FORMAT = "fedkim-contents-1"
SETTLED = 2_000_000_000
"""Nanoseconds that a file must have been left alone before its hash is remembered."""

_Facts = list[int | str]


def hashes(files: Iterable[str]) -> dict[str, str]:
    """sha256 by path, each as it was given.

    Raises:
        FedkimError: a file is missing or unreadable.
    """
    known: dict[str, dict[str, _Facts]] = {}
    found: dict[str, str] = {}
    learned: set[str] = set()
    for file in files:
        if file in found:
            continue
        path = os.path.abspath(file)
        folder, name = os.path.split(path)
        if folder not in known:
            known[folder] = _load(folder)
        try:
            status = os.stat(path)
            facts: _Facts = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
            remembered = known[folder].get(name)
            if remembered and remembered[:-1] == facts:
                found[file] = str(remembered[-1])
                continue
            with open(path, "rb") as handle:
                found[file] = hashlib.file_digest(handle, "sha256").hexdigest()
        except FileNotFoundError:
            raise FedkimError(f"file {file}", found="no such file", remedy="put it back") from None
        except OSError as error:
            what = f"unreadable ({type(error).__name__})"
            raise FedkimError(f"file {file}", found=what, remedy="fix its permissions") from None
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED:
            known[folder][name] = [*facts, found[file]]
            learned.add(folder)
    for folder in learned:
        _save(folder, known[folder])
    return found


def _index(folder: str) -> Path:
    return cache_folder() / "contents" / f"{hashlib.sha256(folder.encode()).hexdigest()[:32]}.json"


def _load(folder: str) -> dict[str, _Facts]:
    """What is remembered of a folder; nothing, if the index is absent, damaged or another's."""
    try:
        stored = json.loads(_index(folder).read_text(encoding="utf-8"))
        text = json.dumps(stored["files"], sort_keys=True)
        whole = stored["format"] == FORMAT and stored["folder"] == folder
        if whole and stored["checksum"] == hashlib.sha256(text.encode()).hexdigest():
            return dict(stored["files"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def _save(folder: str, files: dict[str, _Facts]) -> None:
    """Best effort: a cache that can't be written costs time and nothing else."""
    text = json.dumps(files, sort_keys=True)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    path = _index(folder)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp's mode is 0600: a hospital's file names are in it
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "folder": folder, "checksum": checksum, "files": files}, file)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
