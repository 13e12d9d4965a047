"""PhantomSettings: how large the synthetic federation is, and how far its unseen tasks are related to the seen ones."""

from dataclasses import dataclass

from fedkim.errors import FedkimError
from fedkim.tasks.paper import UNSEEN

GENERATOR_VERSION = 6
"""Raised whenever a change of the generator changes a byte of its output: old caches are then left alone."""

SMALLEST_SIZE = 32
"""Pixels a side below which the findings can't be drawn."""


@dataclass(frozen=True, kw_only=True)
class PhantomSettings:
    """The synthetic federation's size and shape. One patient has one picture, one ECG or one ICU stay."""

    seed: int = 0
    image_patients: int = 1500
    """Patients with a picture; a tenth of them is the test split."""
    signal_patients: int = 1500
    """Patients with an ECG."""
    icu_patients: int = 1800
    """Patients with an intensive-care stay."""
    further_test_patients: int = 0
    """Patients of each kind beyond those, all of them in the test split."""
    rho: float = 1.0
    """How much of an unseen task's cause is a seen task's cause: 0 (nothing can transfer) to 1 (a renamed seen task)."""
    image_size: int = 64
    """Pixels a side."""
    num_sites: int = 5
    """Natural sites (hospitals with their own scanners and habits)."""
    questions_per_patient: int = 1
    """Questions asked of each picture or ECG by each question-answering task."""
    unseen_tasks: tuple[str, ...] = UNSEEN
    """Their labels exist in the development and test splits only."""
    extra_tasks: tuple[str, ...] = ()
    """Further questions on the same inputs (:data:`fedkim.data.phantom.extra.EXTRA`) whose labels every split has."""
    workers: int = 2
    """Threads that render; they change the speed and never a byte."""

    def __post_init__(self) -> None:
        """Refuse sizes that no federation can have."""
        for name in ("image_patients", "signal_patients", "icu_patients", "further_test_patients"):
            if getattr(self, name) < 0:
                raise FedkimError(f"phantom {name}", found=str(getattr(self, name)), expected="0 or more")
        for name in ("num_sites", "questions_per_patient", "workers"):
            if getattr(self, name) < 1:
                raise FedkimError(f"phantom {name}", found=str(getattr(self, name)), expected="1 or more")
        if not 0.0 <= self.rho <= 1.0:
            raise FedkimError("phantom rho", found=str(self.rho), expected="a number from 0 to 1")
        if self.image_size < SMALLEST_SIZE:
            raise FedkimError(
                "phantom image_size", found=str(self.image_size), expected=f"{SMALLEST_SIZE} pixels or more"
            )
