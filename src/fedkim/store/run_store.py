"""RunStore: a run's folder, whose rounds are committed so that a crash costs at most the round in progress."""

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.recipe import Recipe, from_dict
from fedkim.state import State
from fedkim.store.environment import differences, refuse_other_bits
from fedkim.store.events import Events
from fedkim.store.files import (
    TEMPORARY,
    canonical,
    file_digest,
    free_bytes,
    plain,
    pretty,
    sweep,
    sync_folder,
    text_digest,
    write_atomically,
    write_text,
)
from fedkim.store.lock import Lock

KEEP = 3
"""Committed rounds that stay on the disk."""

_log = logging.getLogger(__name__)
_MANIFEST = re.compile(r"round-(\d{4,})\.json")


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A round read back and found whole."""

    round: int
    tensors: State
    """Everything the round wrote, under its namespaces (``state.…``, ``injector.…``, ``optimizer.…``)."""
    manifest: Mapping[str, Any]

    def namespace(self, name: str) -> State:
        """The tensors written under ``name``, without that prefix."""
        return State(self.tensors.below(name))


class RunStore:
    """Reads a run's folder; :meth:`open` also locks it and writes.

    Raises:
        FedkimError: (on reading) no such folder, or it holds no run.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.rounds = self.folder / "rounds"
        self.events = Events(self.folder / "events.jsonl")
        self._lock: Lock | None = None
        self._environment: Mapping[str, Any] = {}

    @classmethod
    def open(
        cls, folder: str | Path, recipe: Recipe, *, force: bool = False, environment: Mapping[str, Any] | None = None
    ) -> "RunStore":
        """Lock the folder for ``recipe``'s run, begin it or find what is there; a context manager.

        Args:
            folder: such as ``runs/demo``; made if absent.
            recipe: must be that of the rounds already there.
            force: delete what the folder holds and start anew.
            environment: see :func:`fedkim.store.environment`; rounds of another thread count, device or dtype are
                refused.

        Raises:
            FedkimError: another process works in the folder, it holds another recipe's run, or something else.
        """
        folder = Path(folder)
        store = cls(folder.resolve() if folder.is_symlink() else folder)
        store._environment = dict(environment or {})
        try:
            store.folder.parent.mkdir(parents=True, exist_ok=True)
            # beside the folder, so that it stays put when --force replaces the folder
            store._lock = Lock(store.folder.parent / f".{store.folder.name}.lock", store.folder)
            store._lock.acquire()
        except OSError as error:
            raise FedkimError(f"run folder {store.folder}", found=error.strerror or "unusable") from None
        try:
            store._prepare(recipe, force)
        except BaseException:
            store.close()
            raise
        return store

    def use_environment(self, environment: Mapping[str, Any]) -> None:
        """Say what decides the last bits, where it is known only once the language model is there."""
        self._environment = dict(environment)

    def close(self) -> None:
        """Give the folder up to others."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def recipe(self) -> Recipe:
        """The recipe whose run this is."""
        return from_dict(self._stored_recipe()["recipe"], source=str(self.folder / "recipe.json"))

    def latest(self) -> Committed | None:
        """The newest whole round; None before the first. A damaged one is passed over with a warning.

        Raises:
            FedkimError: rounds were committed and every one is damaged. Nothing is deleted.
        """
        numbers = self.committed_rounds()
        for number in reversed(numbers):
            damage, manifest = self._verified(number)
            if not damage:
                refuse_other_bits(manifest.get("environment", {}), self._environment)
                changed = differences(manifest.get("environment", {}), self._environment)
                if changed:
                    _log.warning("resuming with another %s: last bits may differ", ", ".join(changed))
                return Committed(round=number, tensors=State.from_file(self._tensors(number)), manifest=manifest)
            _log.warning("round %d in %s is damaged (%s); going back one", number, self.folder, damage)
            if self._lock:
                self.events.append("damaged-round", round=number, reason=damage)
        if numbers:
            raise FedkimError(
                f"run folder {self.folder}",
                found=f"all {len(numbers)} stored rounds damaged ({damage})",
                expected="at least one whole round",
                remedy="restore the folder from a copy, or start anew with --force",
            )
        return None

    def committed_rounds(self) -> list[int]:
        """Numbers of the rounds on the disk, rising; whole or not."""
        matches = (_MANIFEST.fullmatch(path.name) for path in self.rounds.glob("round-*.json"))
        return sorted(int(match[1]) for match in matches if match)

    def commit(self, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any] | None = None) -> str:
        """Commit a round: tensors first, the manifest last. Until its rename the round doesn't exist.

        Args:
            number: the round, from 1.
            tensors: any namespaces, plain dotted names.
            manifest: what else to remember as JSON: participants, their digests, counts, metrics.

        Returns:
            sha256 of the tensors' file.

        Raises:
            FedkimError: no room on the disk; the rounds before stay as they are.
        """
        assert self._lock, "only a store from RunStore.open commits"
        state = _with_own_memory(tensors)
        self._require_room(state.num_bytes)
        self.rounds.mkdir(exist_ok=True)
        path = self._tensors(number)
        write_atomically(path, lambda temporary: _save(state, temporary))
        sha256 = file_digest(path)
        record: dict[str, Any] = {
            **plain(manifest or {}),
            "round": number,
            "file": path.name,
            "bytes": path.stat().st_size,
            "sha256": sha256,
            "parent": self._sha256(number - 1),
            "recipe": self._stored_recipe()["digest"],
            "environment": plain(self._environment),
            "committed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        record["checksum"] = text_digest(canonical(record))
        write_text(self._manifest(number), pretty(record))
        self._prune(number)
        return sha256

    def event(self, event: str, **fields: Any) -> None:
        """Append to ``events.jsonl``; see :class:`fedkim.store.events.Events`."""
        self.events.append(event, **fields)

    def count_reveal(self) -> int:
        """Count one more look at the test split, and give the number so far.

        The count stands beside the folder, as the lock does: starting anew with ``--force`` doesn't undo having looked.
        """
        path = self.folder.parent / f".{self.folder.name}.revealed"
        before = path.read_text(encoding="utf-8").strip() if path.exists() else "0"
        count = int(before) + 1 if before.isdigit() else 1
        write_text(path, f"{count}\n")
        return count

    def write_result(self, result: Mapping[str, Any]) -> Path:
        """Write ``result.json``; its presence says that the run is complete."""
        path = self.folder / "result.json"
        write_text(path, pretty(plain(result)))
        return path

    def result(self) -> dict[str, Any] | None:
        """The stored result, or None while the run isn't complete."""
        path = self.folder / "result.json"
        return _read_json(path) if path.exists() else None

    # -- the folder -------------------------------------------------------------------------------------------------

    def _prepare(self, recipe: Recipe, force: bool) -> None:
        for old in self.folder.parent.glob(f".{self.folder.name}.replaced-*"):
            shutil.rmtree(old)
        present = self.folder.exists() and any(not path.name.startswith(TEMPORARY) for path in _entries(self.folder))
        if present and not (self.folder / "recipe.json").is_file():
            raise FedkimError(
                f"run folder {self.folder}",
                found="files, but no recipe.json",
                expected="a run's folder or an empty one",
                remedy="choose another with --out",
            )
        if present and force:
            aside = self.folder.with_name(f".{self.folder.name}.replaced-{os.getpid()}")
            os.replace(self.folder, aside)  # at once: a crash leaves the old run whole or gone, never half
            sync_folder(self.folder.parent)
            shutil.rmtree(aside)
            present = False
        if present and self._stored_recipe()["digest"] != recipe.digest():
            raise FedkimError(
                f"run folder {self.folder}",
                found=f"the run of another recipe ({_first_difference(self.recipe(), recipe)})",
                remedy="choose another folder with --out, or start anew with --force",
            )
        self.rounds.mkdir(parents=True, exist_ok=True)
        leftovers = sweep(self.folder) + sweep(self.rounds)
        self.events.mend()
        if not present:
            record = {"digest": recipe.digest(), "recipe": recipe.to_dict()}
            write_text(self.folder / "recipe.json", pretty(record))
        if leftovers:
            self.events.append("swept", leftovers=leftovers)

    def _stored_recipe(self) -> dict[str, Any]:
        path = self.folder / "recipe.json"
        if not path.is_file():
            found = "no recipe.json in it" if self.folder.is_dir() else "no such folder"
            raise FedkimError(f"run folder {self.folder}", found=found, expected="a folder made by `fedkim run`")
        record = _read_json(path)
        if not isinstance(record.get("recipe"), dict) or not isinstance(record.get("digest"), str):
            raise FedkimError(f"file {path}", found="something else", expected="a stored recipe")
        return record

    def _require_room(self, num_bytes: int) -> None:
        free = free_bytes(self.folder)
        if free < 2 * num_bytes:
            raise FedkimError(
                f"run folder {self.folder}",
                found=f"{free:,} bytes free",
                expected=f"{2 * num_bytes:,} to commit a round",
                remedy="make room and run the same command again: it resumes",
            )

    # -- rounds -----------------------------------------------------------------------------------------------------

    def _tensors(self, number: int) -> Path:
        return self.rounds / f"round-{number:04d}.safetensors"

    def _manifest(self, number: int) -> Path:
        return self.rounds / f"round-{number:04d}.json"

    def _sha256(self, number: int) -> str | None:
        """The tensors' sha256 that a round's manifest names; None if it isn't there or isn't whole."""
        try:
            return _checked_manifest(self._manifest(number))["sha256"]
        except (_DamagedError, OSError):
            return None

    def _verified(self, number: int) -> tuple[str, dict[str, Any]]:
        """What is wrong with a round (a short name, empty if nothing) and its manifest."""
        try:
            manifest = _checked_manifest(self._manifest(number))
            path = self._tensors(number)
            if manifest.get("round") != number:
                return "manifest-of-another-round", {}
            if manifest.get("recipe") != self._stored_recipe()["digest"]:
                return "manifest-of-another-recipe", {}
            if path.stat().st_size != manifest["bytes"]:
                return "tensors-of-another-size", {}
            if file_digest(path) != manifest["sha256"]:
                return "tensors-with-another-digest", {}
        except _DamagedError:
            return "unreadable-manifest", {}
        except OSError:
            return "missing-tensors", {}
        return "", manifest

    def _prune(self, newest: int) -> None:
        """Drop rounds older than the last KEEP. The manifest goes first: a round without one doesn't exist."""
        for number in self.committed_rounds():
            if number <= newest - KEEP:
                self._manifest(number).unlink()
        kept = {self._tensors(number) for number in self.committed_rounds()}
        for path in self.rounds.glob("round-*.safetensors"):
            if path not in kept:
                path.unlink()


class _DamagedError(Exception):
    """A manifest that isn't what was written."""


def _checked_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        checksum = manifest.pop("checksum")
        whole = text_digest(canonical(manifest)) == checksum
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise _DamagedError
    return manifest


def _with_own_memory(tensors: Mapping[str, Tensor]) -> State:
    """The tensors on the CPU, each with memory of its own: views of one storage can't be written side by side."""
    own: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in State(tensors).items():
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.numel() * tensor.element_size() and storage.data_ptr() not in taken
        own[name] = tensor if alone else tensor.clone()
        taken.add(storage.data_ptr())
    return State(own)


def _save(state: State, path: Path) -> None:
    try:
        safetensors.torch.save_file(dict(state), path)
    except safetensors.SafetensorError as error:  # hides the system's error number in its text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code)) from None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except NotADirectoryError:
        raise FedkimError(f"run folder {folder}", found="a file", expected="a folder") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise FedkimError(f"file {path}", found="unreadable", expected="JSON written by fedkim") from None
    if not isinstance(value, dict):
        raise FedkimError(f"file {path}", found="something else", expected="JSON written by fedkim")
    return value


def _first_difference(stored: Recipe, given: Recipe) -> str:
    before, now = stored.to_dict(), given.to_dict()
    for table, keys in now.items():
        for key, value in keys.items():
            if before[table][key] != value and (table, key) != ("run", "name"):
                return f"{table}.{key} is {before[table][key]!r} there, {value!r} here"
    return "written by another version of fedkim"
