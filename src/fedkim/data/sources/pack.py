"""The real-data pack: NIH chest X-rays, MIT-BIH ECG and YAIB's intensive-care stays as one Dataset, one fold at a time.

Small, real and public: 1,000 films of 682 patients, 9 half-hour ECG records, 2,333 stays (docs/data/pack.md says how to
assemble it and where its traps lie). The folder is given by ``root`` or the environment variable ``FEDKIM_DATA_PACK``; it
is read in place, and what was decoded is kept in the cache.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from fedkim.data.sample import Dataset
from fedkim.data.sources import folds, pack_icu, pack_image, pack_signal
from fedkim.data.splits import check_disjoint
from fedkim.errors import FedkimError


@dataclass(frozen=True, kw_only=True)
class PackSettings:
    """Which fold of the pack, and how its inputs are prepared."""

    root: str | Path = ""
    """The pack's folder; empty: the environment variable ``FEDKIM_DATA_PACK``."""
    fold: int = 0
    """0 to 4; the five folds test different patients."""
    image_size: int = 64
    """Side of an image in pixels."""
    seed: int = 0
    """Of the deal into folds, the matching and the noise; 0 is the published one. Not the run's seed."""
    workers: int = 2
    """Inputs read side by side."""


def load(settings: PackSettings) -> Dataset:
    """One fold of the pack, every sample with its split; labels of unseen tasks in development and test alone.

    Raises:
        FedkimError: no folder, a fold that doesn't exist, or a file that is missing, unreadable or not what it should be.
    """
    root = find_root(settings.root)
    if settings.fold not in range(folds.NUM_FOLDS):
        raise FedkimError("fold", found=str(settings.fold), expected=f"0 to {folds.NUM_FOLDS - 1}")
    if settings.image_size < 16:
        raise FedkimError("image_size", found=str(settings.image_size), expected="at least 16 pixels")
    dataset = Dataset(
        [
            *pack_image.samples(root, settings.fold, settings.image_size, settings.seed, settings.workers),
            *pack_signal.samples(root, settings.fold, settings.seed, settings.workers),
            *pack_icu.samples(root, settings.fold, settings.seed),
        ],
        name="pack",
    )
    check_disjoint(dataset)
    return dataset


def find_root(root: str | Path = "") -> Path:
    """``root``, or what ``FEDKIM_DATA_PACK`` names.

    Raises:
        FedkimError: neither is given, or there is no such folder.
    """
    given = str(root) or os.environ.get("FEDKIM_DATA_PACK", "")
    if not given:
        remedy = "set FEDKIM_DATA_PACK to its folder, or data.root in the recipe (docs/data/pack.md)"
        raise FedkimError("the real-data pack", found="no folder given", remedy=remedy)
    if not Path(given).is_dir():
        raise FedkimError(
            f"the real-data pack {given}", found="no such folder", remedy="assemble it (docs/data/pack.md)"
        )
    return Path(given)
