"""RunFolder: a run's folder as anybody may read it, locking nothing, loading no tensor, and without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.recipe import Recipe, digest_of, from_dict
from fedkim.store.events import Events
from fedkim.store.lock import lock_holder
from fedkim.store.manifests import Manifests


class RunFolder:
    """What a run's folder tells of its recipe, rounds and result.

    Raises:
        FedkimError: (on reading) no such folder, or it holds no run.
    """

    def __init__(self, folder: str | Path):
        given = Path(folder)
        # lock and count of reveals stand beside the folder under its own name, whichever way it is called
        self.folder = given.resolve() if given.is_symlink() or given.name in ("", "..") else given
        self.rounds = self.folder / "rounds"
        self.events = Events(self.folder / "events.jsonl")
        self.manifests = Manifests(self.rounds, recipe=lambda: self._stored_recipe()["digest"])

    def recipe(self) -> Recipe:
        """The recipe whose run this is."""
        return from_dict(self._stored_recipe()["recipe"], source=str(self.folder / "recipe.json"))

    def is_of(self, recipe: Recipe) -> bool:
        """Whether the run there is of this very recipe, by the digest that was stored: one of a version with other settings isn't.

        Raises:
            FedkimError: no ``recipe.json``, or not as it was written.
        """
        return bool(self._stored_recipe()["digest"] == recipe.digest())

    def committed_rounds(self) -> list[int]:
        """Numbers of the rounds on the disk, rising; whole or not."""
        return self.manifests.numbers()

    def newest_round(self) -> int:
        """Number of the newest round on the disk, whole or not; 0 before the first."""
        return max(self.committed_rounds(), default=0)

    def history(self) -> list[dict[str, Any]]:
        """The rounds as the newest readable manifest remembers them; no tensor is read, nothing is locked."""
        return list(self.manifests.newest().get("history", ()))

    def stands_for(self, result: Mapping[str, Any]) -> bool:
        """Whether the newest whole round has the weights that a result is of; True where no round is left to say otherwise."""
        if not self.committed_rounds():
            return True
        return bool(self.manifests.newest_whole().get("digest") == result["train_info"].get("digest"))

    def is_held(self) -> bool:
        """Whether a process is at work in the folder."""
        return lock_holder(self._lock_file()) is not None

    def _lock_file(self) -> Path:
        """Beside the folder, so that it stays put when ``--force`` replaces the folder."""
        return self.folder.parent / f".{self.folder.name}.lock"

    def revealed(self) -> int:
        """Looks at the test split so far."""
        path = self._reveals_file()
        text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        return int(text) if text.isdigit() else 0

    def result(self) -> dict[str, Any] | None:
        """The stored result, or None while the run isn't complete."""
        path = self.folder / "result.json"
        if not path.exists():
            return None
        result = _read_json(path)
        if not _is_result(result):
            raise FedkimError(f"file {path}", found="something else", expected="a stored result")
        return result

    def is_reported(self) -> bool:
        """Whether ``report.html`` was written after the result."""
        report, result = (self.folder / name for name in ("report.html", "result.json"))
        return report.exists() and result.exists() and report.stat().st_mtime_ns >= result.stat().st_mtime_ns

    def _reveals_file(self) -> Path:
        """Beside the folder, as the lock is: starting anew with ``--force`` doesn't undo having looked."""
        return self.folder.parent / f".{self.folder.name}.revealed"

    def _stored_recipe(self) -> dict[str, Any]:
        path = self.folder / "recipe.json"
        if not path.is_file():
            found = "no recipe.json in it" if self.folder.is_dir() else "no such folder"
            raise FedkimError(f"run folder {self.folder}", found=found, expected="a folder made by `fedkim run`")
        record = _read_json(path)
        if not isinstance(record.get("recipe"), dict) or not isinstance(record.get("digest"), str):
            raise FedkimError(f"file {path}", found="something else", expected="a stored recipe")
        tables = record["recipe"].values()
        if not all(isinstance(table, dict) for table in tables) or digest_of(record["recipe"]) != record["digest"]:
            raise FedkimError(
                f"file {path}",
                found="other settings than when it was written",
                expected="those that made this run's rounds, by its digest",
                remedy="put the file back as it was",
            )
        return record


def _is_result(record: Mapping[str, Any]) -> bool:
    """Whether a record has what every reader of a result relies on."""
    if not all(isinstance(record.get(table), dict) for table in ("run_info", "train_info", "metrics", "meta_info")):
        return False
    about = record["run_info"]
    named = all(isinstance(about.get(key), str) for key in ("recipe", "method", "backbone", "llm", "split", "config"))
    entries = all(
        isinstance(entry, dict) and isinstance(entry.get("rows"), dict) for entry in record["metrics"].values()
    )
    return named and entries and isinstance(about.get("environment"), dict) and "seed" in about


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise FedkimError(f"file {path}", found="unreadable", expected="JSON written by fedkim") from None
    if not isinstance(value, dict):
        raise FedkimError(f"file {path}", found="something else", expected="JSON written by fedkim")
    return value
