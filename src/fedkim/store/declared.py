"""What the sites of a networked run declared, in its folder: nobody who scores it later takes them for simulated ones."""

import json
from collections.abc import Mapping
from pathlib import Path

from fedkim.errors import FedkimError
from fedkim.store.files import write_text

_NAME = "network.json"


def remember_declared(folder: Path, declared: Mapping[str, Mapping[str, int]]) -> None:
    """Write what the sites elsewhere declared into a run's folder."""
    write_text(folder / _NAME, json.dumps({site: dict(counts) for site, counts in declared.items()}, indent=1) + "\n")


def recall_declared(folder: Path) -> dict[str, dict[str, int]] | None:
    """What the sites of a networked run declared; None: its sites were simulated.

    Raises:
        FedkimError: the file can't be read.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    try:
        return {
            site: {name: int(count) for name, count in counts.items()}
            for site, counts in json.loads(path.read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        remedy = "restore it, or begin anew with --force"
        raise FedkimError(
            f"file {path}", found="unreadable", expected="what the sites declared", remedy=remedy
        ) from None
