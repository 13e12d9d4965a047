"""Fail-points: named places where a process can be made to die, so that tests can put a crash exactly where it hurts.

``FEDKIM_FAILPOINT=manifest.renamed@3 fedkim run …`` kills the process without warning (SIGKILL: no clean-up, no flush) the third
time it gets to that place; ``…@3:full`` lets the disk be full there instead. Unset, a point costs one comparison.
"""

import errno
import os
import signal

from fedkim.errors import FedkimError, unknown

VARIABLE = "FEDKIM_FAILPOINT"

_WRITING = ("begin", "written", "synced", "renamed", "kept")
POINTS = (
    *(f"{what}.{step}" for what in ("tensors", "manifest", "halfway.tensors", "halfway.manifest") for step in _WRITING),
    "prune.begin",
    "prune.unlinked",
    "prune.done",
    "exchange.update",
    "aggregation.done",
    "injection.begin",
    "injection.step",
    "injection.done",
    "resume.verified",
    "resume.loaded",
)
"""Every place, by name. ``<what>.begin/written/synced/renamed/kept`` are the steps of writing a file so that it lasts."""

_UNREAD = ("", 0, "")
_armed: tuple[str, int, str] | None = _UNREAD
_reached = 0


def arm(spec: str | None) -> None:
    """Arm one fail-point, ``NAME``, ``NAME@TIMES`` or ``NAME@TIMES:full``, in this process; None disarms.

    Raises:
        FedkimError: no such point, or a count that isn't a positive number.
    """
    global _armed, _reached
    _reached = 0
    if not spec:
        _armed = None
        return
    place, _, action = spec.partition(":")
    name, _, times = place.partition("@")
    if name not in POINTS:
        raise unknown(f"fail-point in {VARIABLE}:", name, POINTS)
    if not (times or "1").isdecimal() or int(times or "1") < 1 or action not in ("", "kill", "full"):
        raise FedkimError(f"{VARIABLE}={spec}", expected="NAME, NAME@TIMES or NAME@TIMES:full")
    _armed = (name, int(times or "1"), action or "kill")


def reach(name: str) -> None:
    """Say that the process is at ``name``: it dies here if this point is armed and has been passed often enough.

    Raises:
        OSError: (ENOSPC) the armed action is ``full``.
    """
    global _reached
    if _armed is None:
        return
    if _armed is _UNREAD:
        arm(os.environ.get(VARIABLE))
    if _armed is None or _armed[0] != name:
        return
    _reached += 1
    if _reached == _armed[1]:
        if _armed[2] == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)
