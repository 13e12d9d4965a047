"""How a federation stands: a small file that the loop writes, and a lock that says it is alive; for the coordinator's account alone."""

import json
import os
import time
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.store.files import write_text

STATES = ("starting", "waiting", "running", "finished", "failed", "stopped")
MANIFEST = "FEDKIM_FEDERATION"
"""The environment variable by which ``fedkim coordinator start`` names the manifest to the loop."""

TERMINAL = ("finished", "failed", "stopped")


def write_standing(folder: Path, state: str, *, reason: str = "", **fields: Any) -> None:
    """Write ``standing.json``.

    Args:
        folder: the federation's network folder.
        state: one of :data:`STATES`.
        reason: of a terminal state, one line.
        fields: numbers and short names besides.
    """
    assert state in STATES
    record = {"state": state, "reason": reason, "time": round(time.time(), 1), "process": os.getpid(), **fields}
    write_text(folder / "standing.json", json.dumps(record, indent=1) + "\n")


def read_standing(folder: Path) -> dict[str, Any]:
    """What stands there; ``{}`` before the first time."""
    path = folder / "standing.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def require_access(folder: Path) -> None:
    """Refuse to say anything about a federation of another account: its folder tells nothing, and looks as if nobody were at work.

    Raises:
        FedkimError: the network folder is closed to this account.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        remedy = "ask as the account that runs the coordinator: sites' updates lie there"
        raise FedkimError(f"folder {folder}", found="no permission to look into it", remedy=remedy)
