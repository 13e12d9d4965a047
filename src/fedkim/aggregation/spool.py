"""The spool: updates that wait for their round on disk instead of in memory.

::

    runs/demo/spool/
      site-1.safetensors      the tensors of an update, as they arrived
      site-2.safetensors

A site's tensors are written out and mapped back: an :class:`~fedkim.state.Update` like any other, whose pages the system reads
when a rule comes to them and drops when memory is short. The rules look at a piece of every site at a time, so aggregating
needs memory for the pieces and the result, however many sites there are, and gives the same bits as from memory.
Nothing here outlives its round, so nothing is flushed: after a crash the sites are asked again. The names go as soon as the
last update has arrived; what is mapped stays readable until the round is averaged.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from fedkim.aggregation.gate import Rejection
from fedkim.data.site_names import SITE_NAME
from fedkim.errors import FedkimError
from fedkim.state import State, Update, save_tensors


class Spool:
    """A folder for the updates of one round.

    Args:
        folder: made if it isn't there, and its owner's alone (mode 0700); files of an earlier round are removed.

    Raises:
        FedkimError: it can't be made, or is somebody else's.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # single sites' updates are nobody else's
        except OSError as error:
            remedy = "use a folder of this account's own"
            raise FedkimError(f"spool {folder}", found=error.strerror or "unusable", remedy=remedy) from None
        self.clear()

    def put(self, update: Update) -> Update:
        """The same update with its tensors mapped from a file; the original's memory can go.

        A site's second update in a round replaces the file's name, not what the first one is mapped from.

        Raises:
            FedkimError: a site's name that is no file name, no room on the disk, or a folder that is gone or closed.
        """
        if not SITE_NAME.fullmatch(update.site):
            raise FedkimError("a site's name", expected="a letter, then letters, digits, '_', '-' and '.', at most 64")
        path = self.folder / f"{update.site}.safetensors"
        waiting = path.with_suffix(".part")
        try:
            save_tensors(update.state, waiting)
            os.replace(waiting, path)
        except OSError as error:
            waiting.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            room = f"free {update.state.num_bytes:,} bytes a site there"
            raise FedkimError(
                f"spool {self.folder}",
                found=f"an update that can't be written ({error.strerror or type(error).__name__})",
                remedy=f"{room if full else 'check the folder'}; the same command resumes",
            ) from None
        return replace(update, state=State.from_file(path))

    def through(self, updates: Iterable[Update | Rejection]) -> Iterator[Update | Rejection]:
        """Each update as it arrives, put down: beside what the engine is at work on only one is in memory. Afterwards the folder is empty."""
        try:
            for update in updates:
                yield update if isinstance(update, Rejection) else self.put(update)
        finally:
            self.clear()

    def clear(self) -> None:
        """Remove the files. What is still mapped stays readable until it is let go."""
        for path in (*self.folder.glob("*.safetensors"), *self.folder.glob("*.part")):
            path.unlink()
