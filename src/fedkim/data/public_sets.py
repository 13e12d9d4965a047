"""The public data sets by name: how each is read from its published layout, and what a whole copy holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.record import Record


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The choices that a reader of a public set has to know."""

    labels: str = "fixed"
    """``fixed``, or ``paper`` for the rule of the published code, mistakes included."""
    version: str = ""
    """Of sets that are around in several (VQA-RAD: ``public`` or ``mevf``); empty: the set's first."""
    language: str = "en"
    """Of sets in several languages (SLAKE); ``all`` takes every one."""
    image_size: int = 64
    roots: Mapping[str, str] = field(default_factory=dict)
    """The recipe's ``[data] roots``: a set may need another (ECG-QA's questions are about PTB-XL's recordings)."""


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """One public data set."""

    name: str
    contents: str
    """One sentence for model cards."""
    citation: str
    tasks: tuple[str, ...]
    """Names of the tasks it has labels for."""
    read: Callable[[Path, Reading], Sequence[Record]]
    """Its records in its own order; raises FedkimError where the tables can't be used."""
    check: Callable[[Path], Findings]
    """Headers, counts of known releases, value policies: everything at once, opens no more than it must."""
    versions: tuple[str, ...] = ()


PUBLIC_SETS: dict[str, PublicSet] = {}
"""Open: add your own. Each module in ``fedkim.data.sources`` that describes a set registers it here on import."""
