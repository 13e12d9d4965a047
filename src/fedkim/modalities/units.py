"""Units: what a hospital writes, in the unit the model expects; and a guess at a unit that was mistaken for another.

Each concept has one unit (:mod:`fedkim.modalities.concepts`). Where two are common (creatinine in mg/dL and µmol/L) the
other is converted by the factors below, molar masses as clinical chemistry uses them. Nothing is converted that wasn't
declared: a unit is stated in a header, a column or a ``units`` setting, never guessed from the values. The guess
(:func:`suspicion`) only serves to refuse or warn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS, Concept

OFF = 20.0
"""A median so many times above or below the reference can't be the stated unit."""
DOUBTFUL = 5.0
"""From here on, a median that another common unit would explain within a factor of two is doubted."""
ENOUGH = 10
"""Values from which on a median says something."""

BY_NAME: dict[str, Concept] = {concept.name: concept for group in CONCEPTS.values() for concept in group}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """``value * factor + offset`` is in the concept's own unit."""

    factor: float = 1.0
    offset: float = 0.0


_SAME = Conversion()


def _per(factor: float) -> Conversion:
    return Conversion(factor=factor)


_FRACTION = {"1": _per(100), "fraction": _per(100)}
_KPA = {"kpa": _per(7.50062), "torr": _SAME}
_EQUIVALENT = {"mmol/l": _SAME}
"""Of ions with one charge, and of bases, a mmol is a mEq."""
_CELLS = {
    "10^9/l": _SAME,
    "10e9/l": _SAME,
    "x10^9/l": _SAME,
    "g/l": _SAME,  # giga per litre; grams are meant nowhere among the cell counts
    "k/ul": _SAME,
    "10^3/ul": _SAME,
    "/ul": _per(1e-3),
    "cells/ul": _per(1e-3),
}
_ENZYME = {"u/l": _SAME, "ukat/l": _per(60.0)}
_PER_MINUTE = {"/min": _SAME, "1/min": _SAME, "min-1": _SAME, "bpm": _SAME}

CONVERSIONS: Mapping[str, Mapping[str, Conversion]] = {
    "hr": _PER_MINUTE,
    "resp": _PER_MINUTE | {"insp/min": _SAME},
    "sbp": _KPA,
    "dbp": _KPA,
    "map": _KPA,
    "o2sat": _FRACTION,
    "temp": {
        "c": _SAME,
        "degc": _SAME,
        "f": Conversion(factor=5 / 9, offset=-160 / 9),
        "degf": Conversion(factor=5 / 9, offset=-160 / 9),
    },
    "fio2": _FRACTION,
    "urine": {"l": _per(1000), "cc": _SAME},
    "alb": {"g/l": _per(0.1), "umol/l": _per(0.00665)},
    "alp": _ENZYME,
    "alt": _ENZYME,
    "ast": _ENZYME,
    "be": _EQUIVALENT,
    "bicar": _EQUIVALENT,
    "bili": {"umol/l": _per(1 / 17.1)},
    "bili_dir": {"umol/l": _per(1 / 17.1)},
    "bnd": _FRACTION,
    "bun": {"mmol/l": _per(2.801)},  # of urea, which holds two nitrogens
    "ca": {"mmol/l": _per(4.008), "meq/l": _per(2.004)},
    "cai": {"mg/dl": _per(1 / 4.008), "meq/l": _per(0.5)},
    "ck": _ENZYME,
    "ckmb": {"ug/l": _SAME, "mcg/l": _SAME},
    "cl": _EQUIVALENT,
    "crea": {"umol/l": _per(1 / 88.42), "mmol/l": _per(1000 / 88.42)},
    "crp": {"mg/dl": _per(10)},
    "fgn": {"g/l": _per(100)},
    "glu": {"mmol/l": _per(18.016)},
    "hgb": {"g/l": _per(0.1), "mmol/l": _per(1.6114)},
    "inr_pt": {"1": _SAME, "ratio": _SAME, "inr": _SAME},
    "k": _EQUIVALENT,
    "lact": {"mg/dl": _per(1 / 9.008)},
    "lymph": _FRACTION,
    "mch": {"fmol": _per(16.114)},
    "mchc": {"g/l": _per(0.1), "%": _SAME, "mmol/l": _per(1.6114)},
    "mcv": {"um3": _SAME, "um^3": _SAME},
    "methb": _FRACTION,
    "mg": {"mmol/l": _per(2.4305), "meq/l": _per(1.2153)},
    "na": _EQUIVALENT,
    "neut": _FRACTION,
    "pco2": _KPA,
    "ph": {"1": _SAME, "units": _SAME},
    "phos": {"mmol/l": _per(3.0974)},
    "plt": _CELLS,
    "po2": _KPA,
    "ptt": {"sec": _SAME, "seconds": _SAME},
    "tnt": {"ug/l": _SAME, "ng/l": _per(1e-3), "pg/ml": _per(1e-3)},
    "wbc": _CELLS,
}
"""By concept and spelling (:func:`spelling`); the concept's own unit needs no entry."""


def spelling(unit: str) -> str:
    """A unit as it is looked up: lower case, no spaces, every micro as ``u``, no degree sign."""
    plain = unit.strip().lower().replace("µ", "u").replace("μ", "u").replace("°", "")
    return "".join(plain.replace("³", "^3").replace("⁹", "^9").split())


def conversion(concept: str, unit: str) -> Conversion:
    """How values of ``concept`` in ``unit`` get into the concept's own unit.

    Raises:
        FedkimError: a unit that isn't known for this concept (``E-UNIT-UNKNOWN``).
    """
    own = BY_NAME[concept].unit
    given = spelling(unit)
    if given == spelling(own):
        return _SAME
    known = {spelling(name): found for name, found in CONVERSIONS[concept].items()}
    if given not in known:
        others = ", ".join(CONVERSIONS[concept])
        expected = f"{own}, or one that converts: {others}" if others else own
        raise FedkimError(f"unit {unit!r} of {concept!r}", expected=expected, code="E-UNIT-UNKNOWN")
    return known[given]


def suspicion(concept: Concept, values: np.ndarray) -> tuple[str, str] | None:
    """Whether the values of many patients look like another unit than the concept's: ``(code, what was found)``.

    ``E-UNIT``: the median lies more than 20 times off the reference, or most values lie outside what a living patient can
    show. ``W-UNIT``: more than five times off, and a common other unit would bring it within a factor of two. Quantities
    that can be negative (base excess) or are logarithms (pH) are judged by their range alone.
    """
    given = values[np.isfinite(values)]
    if len(given) < ENOUGH:
        return None
    outside = float(((given < concept.low) | (given > concept.high)).mean())
    if outside > 0.5:
        return "E-UNIT", f"{outside:.0%} of the values outside {concept.low:g} to {concept.high:g} {concept.unit}"
    median = float(np.median(given))
    reference = math.expm1(concept.mean) if concept.log else concept.mean
    if concept.low < 0 or concept.name in ("ph", "urine") or median <= 0:  # an hour without urine is common
        return None
    ratio = median / reference
    times = (
        f"a median {max(ratio, 1 / ratio):.0f} times {'above' if ratio > 1 else 'below'} {reference:.3g} {concept.unit}"
    )
    if not 1 / OFF <= ratio <= OFF:
        return "E-UNIT", times + _hint(concept, ratio)
    hint = _hint(concept, ratio)
    return ("W-UNIT", times + hint) if not 1 / DOUBTFUL <= ratio <= DOUBTFUL and hint else None


def _hint(concept: Concept, ratio: float) -> str:
    near = [
        unit
        for unit, found in CONVERSIONS[concept.name].items()
        if found.factor != 1 and 0.5 <= ratio * found.factor <= 2
    ]
    return f", as if in {near[0]}" if near else ""
