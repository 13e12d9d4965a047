"""A run's committed rounds on the disk: tensors first, the manifest last, every digest checked on the way back.

::

    rounds/round-0007.safetensors         the tensors, written, flushed and renamed into place
    rounds/round-0007.json                the manifest: their sha256, the round before, the recipe; its rename is the commit
    rounds/halfway-0008-00040.safetensors the round in progress, after 40 steps of its injection
    rounds/halfway-0008.json              its manifest; gone once round 8 is committed

A round whose manifest or tensors aren't what was written is passed over, with a warning and an event, for the one before.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.failpoints import reach
from fedkim.state import State, save_tensors
from fedkim.store.files import file_digest, free_bytes, plain, sync_folder, write_atomically
from fedkim.store.manifests import Manifests

KEEP = 3
"""Committed rounds that stay on the disk."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A round, or the half of one, read back and found whole."""

    round: int
    tensors: State
    """Everything the round wrote, under its namespaces (``state.…``, ``injector.…``, ``optimizer.…``)."""
    manifest: Mapping[str, Any]

    def namespace(self, name: str) -> State:
        """The tensors written under ``name``, without that prefix."""
        return State(self.tensors.below(name))


class RoundFiles:
    """The folder ``rounds`` of one run.

    Args:
        manifests: those in the same folder, which is made on the first write.
        damaged: called with a round's number and what is wrong with it, a short name.
    """

    def __init__(self, manifests: Manifests, *, damaged: Callable[[int, str], None]):
        self.folder, self.manifests, self._damaged = manifests.folder, manifests, damaged

    def latest(self) -> Committed | None:
        """The newest whole round; None before the first.

        Raises:
            FedkimError: rounds were committed and every one is damaged. Nothing is deleted.
        """
        damage = ""
        for number, damage, manifest in self.manifests.verified_rounds():
            if not damage:
                reach("resume.verified")
                return self._read(number, manifest)
            _log.warning("round %d in %s is damaged (%s); going back one", number, self.folder.parent, damage)
            self._damaged(number, damage)
        if damage:
            raise FedkimError(
                f"run folder {self.folder.parent}",
                found=f"all {len(self.manifests.numbers())} stored rounds damaged ({damage})",
                expected="at least one whole round",
                remedy="restore the folder from a copy, or start anew with --force",
            )
        return None

    def commit(
        self, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> str:
        """Write a round so that it lasts, then drop the oldest; gives the sha256 of its tensors."""
        facts = {"parent": self.manifests.sha256(number - 1), "environment": environment, **manifest}
        sha256 = self._write(number, self._tensors(number), self.manifests.path(number), tensors, facts, point="")
        self._prune(number)
        return sha256

    # -- the round in progress --------------------------------------------------------------------------------------

    def keep_halfway(
        self, number: int, step: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], environment: Any
    ) -> None:
        """Keep the round in progress in place of what was kept of it before."""
        facts = {"parent": self.manifests.sha256(number - 1), "environment": environment, "step": step, **manifest}
        path = self.folder / f"halfway-{number:04d}-{step:05d}.safetensors"
        self._write(number, path, self._halfway(number), tensors, facts, point="halfway.")
        self._drop_halfway(lambda other: other not in (path, self._halfway(number)))

    def halfway(self, number: int) -> Committed | None:
        """What is kept of round ``number``; None if nothing is, or if it is damaged or follows another round."""
        path = self._halfway(number)
        if not path.exists():
            return None
        damage, manifest = self.manifests.verified(number, path)
        if not damage and manifest["parent"] != self.manifests.sha256(number - 1):
            damage = "halfway-of-another-run"
        if damage:
            _log.warning("what was kept of round %d is damaged (%s); the round starts anew", number, damage)
            self._damaged(number, damage)
            return None
        return self._read(number, manifest)

    def _drop_halfway(self, drop: Callable[[Path], bool]) -> None:
        for path in sorted(self.folder.glob("halfway-*"), reverse=True):  # the manifest, without a step, goes first
            if drop(path):
                path.unlink()

    # -- one round --------------------------------------------------------------------------------------------------

    def _write(
        self,
        number: int,
        path: Path,
        manifest_path: Path,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        *,
        point: str,
    ) -> str:
        """Tensors first, the manifest last. Until its rename the round doesn't exist."""
        state = _with_own_memory(tensors)
        self._require_room(state.num_bytes)
        self.folder.mkdir(exist_ok=True)
        write_atomically(path, lambda temporary: save_tensors(state, temporary), point=f"{point}tensors")
        sha256 = file_digest(path)
        record = {
            **plain(facts),
            "round": number,
            "file": path.name,
            "bytes": path.stat().st_size,
            "sha256": sha256,
            "committed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.manifests.write(manifest_path, record, point=f"{point}manifest")
        return sha256

    def _read(self, number: int, manifest: Mapping[str, Any]) -> Committed:
        return Committed(
            round=number, tensors=State.from_file(self.folder / Path(manifest["file"]).name), manifest=manifest
        )

    def _prune(self, newest: int) -> None:
        """Drop rounds older than the last KEEP, and what was kept of the round. Manifests go first: without one, no round."""
        reach("prune.begin")
        old = [self.manifests.path(number) for number in self.manifests.numbers() if number <= newest - KEEP]
        for path in old:
            path.unlink()
            reach("prune.unlinked")
        kept = {self._tensors(number) for number in self.manifests.numbers()}
        orphans = [path for path in self.folder.glob("round-*.safetensors") if path not in kept]
        if old:
            sync_folder(self.folder)  # or a loss of power could bring back the manifest of tensors that are gone
        for path in orphans:
            path.unlink()
        self._drop_halfway(lambda path: True)
        reach("prune.done")

    def _require_room(self, num_bytes: int) -> None:
        free = free_bytes(self.folder)
        if free < 2 * num_bytes:
            raise FedkimError(
                f"run folder {self.folder.parent}",
                found=f"{free:,} bytes free",
                expected=f"{2 * num_bytes:,} to commit a round",
                remedy="make room and run the same command again: it resumes",
            )

    def _tensors(self, number: int) -> Path:
        return self.folder / f"round-{number:04d}.safetensors"

    def _halfway(self, number: int) -> Path:
        return self.folder / f"halfway-{number:04d}.json"


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
