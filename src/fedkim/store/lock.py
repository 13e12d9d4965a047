"""One writer at a time: an advisory lock that the system gives up by itself when its holder dies."""

import contextlib
import fcntl
import os
from pathlib import Path

from fedkim.errors import FedkimError


class Lock:
    """A lock file holding the process id of its owner. Never deleted: that would race.

    Args:
        path: the lock file.
        what: what it keeps to one process, as an error names it.
        remedy: what somebody who comes second can do.
    """

    def __init__(self, path: Path, what: str, *, remedy: str):
        self.path, self._what, self._remedy = path, what, remedy
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            FedkimError: another process holds it; the message says which.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise FedkimError(
                self._what,
                found=f"process {holder} at work" if holder.isdigit() else "another process at work",
                remedy=self._remedy,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up; harmless if it isn't held."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing the only descriptor releases the lock
            self._descriptor = None


def lock_holder(lock: Path) -> int | None:
    """The living process whose number stands in a lock file and that has the file open; looking takes no lock, so it is in
    nobody's way. A number that is another process's by now isn't the holder's.
    """
    try:
        process = int(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return process if lives(process) and _has_open(process, lock) else None


def _has_open(process: int, path: Path) -> bool:
    """Whether a process has a file open; True where another user's process doesn't show."""
    try:
        own = path.stat()
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                other = descriptor.stat()
                if (other.st_dev, other.st_ino) == (own.st_dev, own.st_ino):
                    return True
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def lives(process: int) -> bool:
    """Whether a process runs; one that ended and wasn't collected yet doesn't."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
