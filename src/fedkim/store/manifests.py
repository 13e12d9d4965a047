"""The manifests of a run's rounds: what is committed, and whether it is whole. No tensor is read for it, nothing of torch imported."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedkim.store.files import canonical, file_digest, pretty, text_digest, write_text

_NAME = re.compile(r"round-(\d{4,})\.json")


class Manifests:
    """The manifests in the folder ``rounds`` of one run.

    Args:
        folder: need not exist yet.
        recipe: gives the digest of the recipe whose rounds these must be.
    """

    def __init__(self, folder: Path, *, recipe: Callable[[], str]):
        self.folder, self._recipe = folder, recipe

    def numbers(self) -> list[int]:
        """Numbers of the rounds on the disk, rising; whole or not."""
        matches = (_NAME.fullmatch(path.name) for path in self.folder.glob("round-*.json"))
        return sorted(int(match[1]) for match in matches if match)

    def path(self, number: int) -> Path:
        """A round's manifest."""
        return self.folder / f"round-{number:04d}.json"

    def write(self, path: Path, record: Mapping[str, Any], *, point: str) -> None:
        """Write a manifest with its recipe's digest and a checksum; its rename is the commit, and ``point`` the fail-point there."""
        sealed = {**record, "recipe": self._recipe()}
        write_text(path, pretty({**sealed, "checksum": text_digest(canonical(sealed))}), point=point)

    def newest(self) -> dict[str, Any]:
        """The manifest of the newest round that has a whole one; its tensors aren't looked at. Before the first: nothing."""
        for number in reversed(self.numbers()):
            with contextlib.suppress(_DamagedError, OSError):
                return _checked(self.path(number))
        return {}

    def newest_whole(self) -> dict[str, Any]:
        """The manifest of the newest round whose tensors are those it names. Before the first: nothing."""
        return next((manifest for _, damage, manifest in self.verified_rounds() if not damage), {})

    def verified_rounds(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Number, damage and manifest of every round, the newest first; each is verified when its turn comes."""
        for number in reversed(self.numbers()):
            yield number, *self.verified(number, self.path(number))

    def verified(self, number: int, path: Path) -> tuple[str, dict[str, Any]]:
        """What is wrong with a round, or with what is kept of it (a short name, empty if nothing), and its manifest at ``path``."""
        recipe = self._recipe()  # a recipe that can't be read says nothing about a round
        try:
            manifest = _checked(path)
            tensors = self.folder / Path(str(manifest["file"])).name
            if manifest.get("round") != number:
                return "manifest-of-another-round", {}
            if manifest.get("recipe") != recipe:
                return "manifest-of-another-recipe", {}
            if tensors.stat().st_size != manifest["bytes"]:
                return "tensors-of-another-size", {}
            if file_digest(tensors) != manifest["sha256"]:
                return "tensors-with-another-digest", {}
        except _DamagedError:
            return "unreadable-manifest", {}
        except (OSError, ValueError):  # the latter: a name that no file can have
            return "missing-tensors", {}
        return "", manifest

    def sha256(self, number: int) -> str | None:
        """The tensors' sha256 that a round's manifest names; None if it isn't there or isn't whole."""
        try:
            return _checked(self.path(number))["sha256"]
        except (_DamagedError, OSError):
            return None


class _DamagedError(Exception):
    """A manifest that isn't what was written."""


def _checked(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        checksum = manifest.pop("checksum")
        whole = text_digest(canonical(manifest)) == checksum
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise _DamagedError
    return manifest
