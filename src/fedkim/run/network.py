"""Sites elsewhere: what a run needs to know when its hospitals are on a network rather than in this process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedkim.errors import FedkimError
from fedkim.federation import Exchange
from fedkim.store.files import write_text

NAME = "network.json"
"""In a run's folder: what its sites declared, so that nobody who scores the run later takes them for simulated ones."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The sites of a manifest, and the engine that reaches them. Their data never come here."""

    declared: Mapping[str, Mapping[str, int]]
    """Most examples by site and component; what a site owns is what stands here."""
    exchange: Exchange


def remember_declared(folder: Path, declared: Mapping[str, Mapping[str, int]]) -> None:
    """Write what the sites elsewhere declared into a run's folder."""
    write_text(folder / NAME, json.dumps({site: dict(counts) for site, counts in declared.items()}, indent=1) + "\n")


def recall_declared(folder: Path) -> dict[str, dict[str, int]] | None:
    """What the sites of a networked run declared; None: its sites were simulated.

    Raises:
        FedkimError: the file can't be read.
    """
    path = folder / NAME
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
