"""How a run is measured. Defaults are the ``fast`` preset; each field's docstring is its manual."""

from dataclasses import dataclass
from typing import ClassVar

from fedkim.recipe.table import Table


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    """What is measured, and on how many."""

    table: ClassVar[str] = "evaluation"
    draws: int = 1000
    """Bootstrap draws (of patients) behind each interval."""
    batch_size: int = 32
    """Samples scored at once."""
    development_samples: int = 0
    """At most so many development samples a task, for thresholds and the reported development scores; 0: all."""
    curve_samples: int = 0
    """Development samples a task that the injected model answers after every round, for the curve; 0: only at the end."""
    blind: bool = True
    """Also train and score without modality segments."""
    unseen: bool = True
    """Ask the unseen tasks too; off while settings are chosen, which seen tasks alone decide."""
    shuffled: bool = True
    """Also score with features permuted over patients."""
    reveal_test: bool = False
    """Print test scores; only for a recipe whose settings are final."""

    def split(self, reveal_test: bool) -> str:
        """Which patients are scored: the test split where the recipe or the user says so, otherwise development."""
        return "test" if reveal_test or self.reveal_test else "development"

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size")
        self._at_least(100, "draws")
        self._at_least(0, "development_samples", "curve_samples")
