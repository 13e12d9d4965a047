"""The audit log: an append-only, hash-chained record of everything that left a site.

::

    {"seq": 3, "time": "2026-11-24T21:07:12Z", "event": "sent", "run": "…", "round": 3, "bytes": 812345,
     "tensors": [{"name": "encoder.image.…", "shape": [16], "norm": 0.41, "bytes": 64, "sha256": "…"}, …],
     "previous": "<hash of line 2>", "hash": "<sha256 of this line without its hash>"}

A changed, deleted or moved line breaks the chain. A cut-off end doesn't, so every reply with weights carries the head to the
coordinator, which keeps that of the last reply it could read: ``verify`` takes it as ``--head``. What was sent after it, and came too
late or couldn't be read, stands in this log alone.
"""

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.state import State
from fedkim.store.files import canonical, cut_torn_line, free_bytes, sync_folder
from fedkim.store.lock import Lock

START = "0" * 64
"""What the first line calls the one before it."""
LEFT = ("sent", "resent")
"""Events of replies with weights."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A log whose chain holds."""

    entries: int
    head: str
    sent: int
    """Replies that left."""
    bytes: int
    """In all."""


class AuditLog:
    """Appends to ``audit.jsonl``; one process at a time.

    Raises:
        FedkimError: the log that is there doesn't verify, or another process writes it.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock, self._writing = (
            Lock(path.with_name(f".{path.name}.lock"), f"audit log {path}", remedy="wait until it is done"),
            threading.Lock(),
        )
        self._lock.acquire()
        with contextlib.suppress(OSError):  # reading it says what is wrong
            cut_torn_line(path)  # what it would have told hadn't left
        verified = verify(path)
        self.head, self._next = verified.head, verified.entries + 1
        self._written = _identity(path)

    def append(self, event: str, **fields: Any) -> str:
        """Add a line, flushed to the disk before anything may leave; gives the new head.

        Raises:
            FedkimError: no room, no access, or another file in the log's place: what left would not be told, and not be counted.
        """
        try:
            return self._append(event, fields)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            found = f"no room, {free_bytes(self.path):,} bytes free" if full else error.strerror or type(error).__name__
            remedy = "make room there" if full else "give this account access to it"
            raise FedkimError(f"audit log {self.path}", found=found, remedy=remedy, code="E-AUDIT") from None

    def _append(self, event: str, fields: Mapping[str, Any]) -> str:
        with self._writing:
            self._require_own()
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            entry = {"seq": self._next, "time": moment, "event": event, **fields, "previous": self.head}
            entry["hash"] = _hash(entry)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            line, before = (canonical(entry) + "\n").encode(), os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, "no room for a line of the audit log")
                os.fsync(descriptor)
                if not before:  # a new file: its name has to survive a loss of power too
                    sync_folder(self.path.parent)
            except OSError:
                os.ftruncate(descriptor, before)
                self._written = _identity(self.path)
                raise
            finally:
                os.close(descriptor)
            self.head, self._next = entry["hash"], self._next + 1
            self._written = _identity(self.path)
            return self.head

    def _require_own(self) -> None:
        """Refuse a log that was moved, replaced or cut while this process held it, as by a rotation of logs."""
        if _identity(self.path) != self._written:
            raise FedkimError(
                f"audit log {self.path}",
                found="another file than was written, or other lines",
                expected="the log as it was: it counts what left, and is never rotated",
                remedy="put it back and start the site again",
                code="E-AUDIT",
            )

    def answered(self, run: str) -> set[tuple[int, str]]:
        """Round, and digest of the weights it began with, of every update of a run that left.

        Raises:
            FedkimError: another file stands in the log's place.
        """
        self._require_own()
        sent = (entry for entry in entries(self.path) if entry["event"] == "sent" and entry["run"] == run)
        return {(entry["round"], entry.get("base", "")) for entry in sent}

    def close(self) -> None:
        """Let another process write."""
        self._lock.release()


def tensors_of(state: State) -> list[dict[str, Any]]:
    """What a log line, or a dry run, says about each tensor: name, shape, type, length, bytes, sha256."""
    return [
        {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "norm": float(f"{tensor.double().norm().item():.6g}"),
            "bytes": tensor.numel() * tensor.element_size(),
            "sha256": State({name: tensor}).digest(),
        }
        for name, tensor in state.items()
    ]


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines, unchecked."""
    if path.exists():
        with open(path, encoding="utf-8") as file:
            yield from (json.loads(line) for line in file)


def verify(path: Path, *, head: str | None = None) -> Verified:
    """Follow the chain from the first line to the last.

    Args:
        path: the log; one that isn't there is empty.
        head: a head that the coordinator noted; the chain must have passed through it.

    Raises:
        FedkimError: a line was changed, removed, moved or added by other means, or the end was cut off before ``head``.
    """
    previous, count, sent, size, passed = START, 0, 0, 0, head in (None, START)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        found, remedy = error.strerror or type(error).__name__, "give this account access to it"
        raise FedkimError(f"audit log {path}", found=found, expected="a file", remedy=remedy) from None
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = json.loads(line)
            whole = canonical(entry).encode() == line
        except (ValueError, RecursionError):
            entry, whole = {}, False
        ok = isinstance(entry, Mapping) and whole and entry.get("seq") == number and entry.get("previous") == previous
        ok = ok and "event" in entry and (entry["event"] not in LEFT or type(entry.get("bytes")) is int)
        if not ok or entry.get("hash") != _hash(entry):
            raise FedkimError(
                f"audit log {path}, line {number}",
                found="a broken chain",
                expected="the line that was written",
                remedy="the log begins in the middle: put its earlier lines before these"
                if number == 1 and isinstance(entry.get("seq"), int) and entry["seq"] > 1 and whole
                else "the log was changed; restore it from a copy",
            )
        previous, count = entry["hash"], number
        passed = passed or previous == head
        if entry["event"] in LEFT:
            sent, size = sent + 1, size + entry["bytes"]
    if lines[-1]:
        raise FedkimError(f"audit log {path}", found="a torn last line", remedy="the next `fedkim site join` mends it")
    if not passed:
        raise FedkimError(
            f"audit log {path}",
            found="no line with that head",
            remedy="lines were cut off, or it is another site's head",
        )
    return Verified(entries=count, head=previous, sent=sent, bytes=size)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is and how long; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size


def _hash(entry: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()
