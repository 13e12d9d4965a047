"""The public data sets by name: how each is read from its published layout, and what a whole copy holds."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.record import Record
from fedkim.errors import unknown

BUILT_IN = ("rsna", "covid", "chexpert", "ptbxl", "ecgqa", "yaib", "vqarad", "slake")
"""The sets that come along: each is described in the module of its name in ``fedkim.data.sources``."""


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
    read: Callable[[Path, Reading], Iterable[Record]]
    """Its records in its own order; raises FedkimError where the tables can't be used."""
    check: Callable[..., Findings]
    """Of its folder: headers, counts of known releases, value policies: everything at once, opens no more than it must."""
    versions: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Names of the other sets that it is about: ``check`` then takes their folders by name as well (``roots``)."""


PUBLIC_SETS: dict[str, PublicSet] = {}
"""Open: add your own. Each module in ``fedkim.data.sources`` that describes a set registers it here on import."""


def known_sets() -> dict[str, PublicSet]:
    """:data:`PUBLIC_SETS` with those that come along: in their order, then what plug-ins added.

    Their modules are imported here and not before, as each brings the readers of its formats.
    """
    added = dict(PUBLIC_SETS)
    for name in BUILT_IN:
        module = f"{__package__}.sources.{name}"
        if name not in PUBLIC_SETS and importlib.util.find_spec(module):
            importlib.import_module(module)
    everything = {name: PUBLIC_SETS[name] for name in BUILT_IN if name in PUBLIC_SETS} | PUBLIC_SETS
    return everything | added  # a plug-in's set of a name that comes along is the one meant


def find_set(name: str) -> PublicSet:
    """The set called ``name``.

    Raises:
        FedkimError: there is none; the nearest name is the hint.
    """
    sets = known_sets()
    if name not in sets:
        raise unknown("public data set", name, sets)
    return sets[name]
