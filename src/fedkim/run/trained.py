"""Who a run has learned from, so that it isn't scored on them later: keyed fingerprints beside the rounds.

``fedkim evaluate RUN --data OTHER`` deals the other data anew; whoever was at a site or in the public set before may land in the
test. Kept for public data alone: a hospital's list of patients leaves no trace in a run's folder, and synthetic patients are
nobody.
"""

import hmac
import json
import secrets
from dataclasses import replace
from pathlib import Path

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.recipe import Data
from fedkim.store.files import write_text

NAME = "trained.json"
LEARNED = ("private", "public", "development")
"""Splits that shape the weights or the choices."""


def remember_trained(folder: Path, data: Dataset, source: str) -> None:
    """Write who was learned from, under a key of this run's own; nothing for synthetic or a hospital's own data."""
    if data.synthetic or source == "hospital" or (folder / NAME).exists():
        return
    key = secrets.token_bytes(32)
    learned = sorted({_print(key, sample.patient) for sample in data if sample.split in LEARNED})
    write_text(folder / NAME, json.dumps({"key": key.hex(), "patients": learned}))


def refuse_trained(folder: Path, data: Dataset, split: str) -> None:
    """Refuse to score patients whom the run has learned from.

    Raises:
        FedkimError: says how many, never who.
    """
    try:
        record = json.loads((folder / NAME).read_text(encoding="utf-8"))
        key, learned = bytes.fromhex(record["key"]), set(record["patients"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        found = "no list of patients that can be read"
        raise FedkimError(f"{folder / NAME}", found=found, remedy="run the recipe anew") from None
    asked = {sample.patient for sample in data if sample.split == split}
    known = sum(_print(key, patient) in learned for patient in asked)
    if known:
        raise FedkimError(
            f"run {folder}",
            found=f"{known} of the {len(asked)} {split} patients among those it has learned from",
            expected="patients it has never met",
            remedy="leave them out of the data, or score the run's own test split",
        )


def elsewhere(data: Data, folder: str) -> Data:
    """The same kind of data in another folder.

    Raises:
        FedkimError: no such folder, data that are of no folder, several public sets, of which one can't take the place.
    """
    if data.source == "phantom":
        remedy = "give a hospital's site.toml, or leave --data out"
        raise FedkimError(
            "--data", found="a folder", expected="none: the run's data are drawn, not read", remedy=remedy
        )
    if not Path(folder).exists():
        raise FedkimError(
            f"--data {folder}", found="no such file or folder", expected="a folder, or a hospital's site.toml"
        )
    if data.source != "public":
        return replace(data, root=folder)
    if len(data.roots) != 1:
        raise FedkimError("--data", found=f"one folder for {len(data.roots)} public sets", expected="a run on one set")
    return replace(data, roots={next(iter(data.roots)): folder})


def _print(key: bytes, patient: str) -> str:
    return hmac.digest(key, patient.encode(), "sha256")[:12].hex()
