"""Folds of the real-data pack: who is trained on and who is held out, decided once per patient for all tasks.

Patients (NIH) and stays (ICU, where no patient id exists) are dealt into ten deciles; five folds rotate them so that each
fold has seven private deciles, one public, one for development and one for the test, and no decile is tested twice.
Who carries labels of unseen tasks only is never trained on: such stays are dealt to the folds, each to exactly one, a
fifth of them there for development and the rest for the test. So pooling five folds counts nobody twice.

The nine ECG records follow a table: nine patients are too few to leave to chance.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from fedkim.errors import FedkimError
from fedkim.randomness import seed_for

NUM_FOLDS = 5
NUM_DECILES = 10
NUM_CELLS = 25
"""Cells into which the stays without seen labels are dealt: five for each fold, one of the five for development."""


@dataclass(frozen=True, kw_only=True)
class RecordTable:
    """Which ECG record plays which part in one fold."""

    private: tuple[str, ...]
    public: tuple[str, ...]
    """One record rich in ventricular beats, one poor."""
    development: tuple[str, ...]
    test: tuple[str, ...]

    def split_of(self, record: str) -> str:
        """``private``, ``public``, ``development`` or ``test``."""
        for split in ("private", "public", "development", "test"):
            if record in getattr(self, split):
                return split
        raise FedkimError(f"ECG record {record!r}", found="no place in the fold table", expected="one of the nine")


RECORDS: tuple[RecordTable, ...] = (
    RecordTable(
        private=("100", "102", "105", "119", "123"), public=("200", "104"), development=("108",), test=("114",)
    ),
    RecordTable(
        private=("102", "104", "108", "123", "200"), public=("119", "100"), development=("114",), test=("105",)
    ),
    RecordTable(
        private=("100", "102", "104", "105", "119"), public=("200", "123"), development=("114",), test=("108",)
    ),
    RecordTable(
        private=("100", "104", "105", "114", "123"), public=("200", "102"), development=("108",), test=("119",)
    ),
    RecordTable(
        private=("102", "104", "105", "114", "123"), public=("119", "100"), development=("108",), test=("200",)
    ),
)
"""By fold. The first row is the published one; the five records rich in ventricular beats take turns in the test. In every
row private and public records hold windows with each answer to each question that is put to the signal."""

HELD_OUT_RECORDS = tuple(sorted({record for row in RECORDS for record in (*row.development, *row.test)}))
"""Records that some fold holds out."""


def deal(strata: Mapping[str, Hashable], parts: int, seed: int, purpose: str) -> dict[str, int]:
    """Deal the keys into ``parts`` parts so that each gets its share of every stratum: a pure function.

    Within a stratum the order is that of a seeded hash of the key alone; strata follow each other in their own order and
    the dealing never starts over, so parts differ by at most one member a stratum and by at most one in all.

    Args:
        strata: patient → stratum.
        parts: how many parts.
        seed: of the run.
        purpose: keeps two dealings of the same patients apart.
    """
    order = sorted(strata, key=lambda key: (repr(strata[key]), seed_for(seed, purpose, key), key))
    return {key: position % parts for position, key in enumerate(order)}


def split_of_decile(decile: int, fold: int) -> str:
    """The split of a decile: 2k is tested in fold k, 2k + 1 is its development, 2k + 2 its public set, the rest private."""
    roles = {2 * fold: "test", 2 * fold + 1: "development", (2 * fold + 2) % NUM_DECILES: "public"}
    return roles.get(decile, "private")


def split_of_cell(cell: int, fold: int) -> str | None:
    """The split of a cell of stays without seen labels; None where another fold has it."""
    if cell // NUM_FOLDS != fold:
        return None
    return "development" if cell % NUM_FOLDS == 0 else "test"


def yes(claim: bool) -> str:
    """``Yes`` or ``No``, the answers of a closed task."""
    return "Yes" if claim else "No"
