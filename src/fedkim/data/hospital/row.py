"""Row: what one line of a hospital's tables says of one patient, in the tasks' words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedkim.modalities.concepts import CONCEPTS

INPUTS = ("image", "ecg", "series", "stay")
"""Columns that name an input."""
GIVES: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "ecg": ("signal",),
    "series": tuple(CONCEPTS),
    "stay": tuple(CONCEPTS),
}
"""Modalities by the column that brings them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table that can be used, ids and paths as they stand there: it never leaves this package."""

    table: str
    number: int
    """Counted from 1 after the header."""
    patient: str
    files: Mapping[str, str]
    """By column role (``image``, ``ecg``, ``series``, ``stay``), only those that are there."""
    labels: Mapping[str, str]
    questions: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    site: str = ""
