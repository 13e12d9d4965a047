"""RunStore: a run's folder, whose rounds are committed so that a crash costs at most the round in progress."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.recipe import Recipe
from fedkim.store.environment import differences, refuse_other_bits
from fedkim.store.files import TEMPORARY, make_folder, plain, pretty, refused, sweep, sync_folder, write_text
from fedkim.store.lock import Lock
from fedkim.store.rounds import Committed, RoundFiles
from fedkim.store.run_folder import RunFolder

_log = logging.getLogger(__name__)
_AT_FIRST = {"recipe.json", "events.jsonl", "rounds", "spool"}
"""What a run's folder holds before anything of a round is kept."""


class RunStore(RunFolder):
    """Reads a run's folder, its tensors too; :meth:`open` also locks it and writes.

    Raises:
        FedkimError: (on reading) no such folder, or it holds no run.
    """

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        self._files = RoundFiles(self.manifests, damaged=self._tell_damaged)
        self._lock: Lock | None = None
        self._environment: Mapping[str, Any] = {}

    @classmethod
    def open(
        cls, folder: str | Path, recipe: Recipe, *, force: bool = False, environment: Mapping[str, Any] | None = None
    ) -> "RunStore":
        """Lock the folder for ``recipe``'s run, begin it or find what is there; a context manager.

        Args:
            folder: such as ``runs/demo``; made if absent.
            recipe: must be that of the rounds already there; where none was kept, the folder is begun anew.
            force: delete what the folder holds and start anew.
            environment: see :func:`fedkim.store.environment.environment`; rounds of another thread count, device or dtype are
                refused.

        Raises:
            FedkimError: another process works in the folder, it holds another recipe's run, or something else.
        """
        store = cls(folder)
        _require_utf8(store.folder)
        store._environment = dict(environment or {})
        try:
            make_folder(store.folder.parent)
            store._lock = Lock(
                store._lock_file(),
                f"run folder {store.folder}",
                remedy="wait for it, or choose another folder with --out",
            )
            store._lock.acquire()
            store._prepare(recipe, force)
        except BaseException as error:
            store.close()
            if isinstance(error, OSError):
                raise FedkimError(f"run folder {store.folder}", found=error.strerror or "unusable") from None
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

    def latest(self) -> Committed | None:
        """The newest whole round; None before the first. A damaged one is passed over with a warning.

        Raises:
            FedkimError: rounds were committed and every one is damaged (nothing is deleted), or the newest was computed
                with another number of threads, device or dtype.
        """
        return self._usable(self._files.latest())

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
        return self._files.commit(number, tensors, manifest or {}, self._environment)

    def keep_halfway(
        self, number: int, step: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the round in progress as it is after ``step`` steps of injection; what was kept of it before goes.

        Raises:
            FedkimError: no room on the disk; what was kept before stays as it is.
        """
        assert self._lock, "only a store from RunStore.open commits"
        self._files.keep_halfway(number, step, tensors, manifest or {}, self._environment)

    def halfway(self, number: int) -> Committed | None:
        """What was kept of round ``number``, its step in ``manifest["step"]``; None if nothing usable was.

        Raises:
            FedkimError: it was computed with another number of threads, device or dtype.
        """
        return self._usable(self._files.halfway(number))

    def _usable(self, found: Committed | None) -> Committed | None:
        if found:
            before = found.manifest.get("environment", {})
            refuse_other_bits(before, self._environment)
            changed = differences(before, self._environment)
            if changed:
                _log.warning("resuming with another %s: last bits may differ", ", ".join(changed))
        return found

    def event(self, event: str, **fields: Any) -> None:
        """Append to ``events.jsonl``; see :class:`fedkim.store.events.Events`."""
        self.events.append(event, **fields)

    def count_reveal(self) -> int:
        """Count one more look at the test split, and give the number so far."""
        count = self.revealed() + 1
        write_text(self._reveals_file(), f"{count}\n")
        return count

    def write_result(self, result: Mapping[str, Any], write_predictions: Callable[[Path], None]) -> None:
        """Write a result, whose presence says that the run is complete, and the predictions it was made of, in the place of earlier ones.

        Both are on the disk before anything is taken away. Cut off after that there is no result, and the run is scored
        again: never one of one split beside predictions of another.

        Args:
            result: for ``result.json``.
            write_predictions: fills the file that it is given.

        Raises:
            FedkimError: no room on the disk; what was there stays.
        """
        names = ("predictions.json", "result.json")
        drafts = [self.folder / f"{TEMPORARY}{os.getpid()}-new-{name}" for name in names]
        try:
            write_predictions(drafts[0])
            write_text(drafts[1], pretty(plain(result)))
            (self.folder / "result.json").unlink(missing_ok=True)
            sync_folder(self.folder)
            for draft, name in zip(drafts, names, strict=True):
                os.replace(draft, self.folder / name)
            sync_folder(self.folder)
        except OSError as error:
            raise refused(self.folder / "result.json", error) from None
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)

    def _is_begun_only(self) -> bool:
        """Whether nothing of a round was kept, and nothing is there that a run doesn't begin with: a recipe with a mistake in it leaves
        such a folder, and its correction may have it.
        """
        if any(path.name not in _AT_FIRST and not path.name.startswith(TEMPORARY) for path in self.folder.iterdir()):
            return False
        work = [path for name in ("rounds", "spool") for path in (self.folder / name).glob("*")]
        kept = any(not path.name.startswith(TEMPORARY) for path in work)
        return not kept

    def _tell_damaged(self, number: int, damage: str) -> None:
        if self._lock:
            self.events.append("damaged-round", round=number, reason=damage)

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
        other = present and not force and not self.is_of(recipe)
        if present and (force or (other and self._is_begun_only())):
            aside = self.folder.with_name(f".{self.folder.name}.replaced-{os.getpid()}")
            os.replace(self.folder, aside)  # at once: a crash leaves the old run whole or gone, never half
            sync_folder(self.folder.parent)
            shutil.rmtree(aside)
            present = other = False
        if other:
            raise FedkimError(
                f"run folder {self.folder}",
                found=f"the run of another recipe ({_first_difference(self.recipe(), recipe)})",
                remedy="choose another folder with --out, or start anew with --force",
            )
        make_folder(self.rounds)
        leftovers = sweep(self.folder) + sweep(self.rounds)
        self.events.mend()
        if not present:
            record = {"digest": recipe.digest(), "recipe": recipe.to_dict()}
            write_text(self.folder / "recipe.json", pretty(record))
        if leftovers:
            self.events.append("swept", leftovers=leftovers)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except NotADirectoryError:
        raise FedkimError(f"run folder {folder}", found="a file", expected="a folder") from None


def _first_difference(stored: Recipe, given: Recipe) -> str:
    before, now = stored.decisive(), given.decisive()
    for table, keys in now.items():
        for key, value in keys.items():
            if before[table][key] != value:
                return f"{table}.{key} is {before[table][key]!r} there, {value!r} here"
    return "written by another version of fedkim"


def _require_utf8(folder: Path) -> None:
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        shown = ascii(str(folder))
        raise FedkimError(f"run folder {shown}", found="a name that isn't UTF-8", remedy="choose another") from None
