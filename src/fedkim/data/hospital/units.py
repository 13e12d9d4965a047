"""Units in which hospitals measure the concepts, and the numbers that turn them into ours."""

from collections.abc import Mapping

from fedkim.modalities.concepts import Concept

_SAME: Mapping[str, tuple[str, ...]] = {
    "mEq/L": ("mmol/L",),  # of ions with one charge, and of base excess and bicarbonate
    "1000/µL": ("10^9/L", "G/L", "K/µL"),
    "beats/min": ("bpm", "1/min", "/min"),
    "breaths/min": ("1/min", "/min"),
    "°C": ("C", "degC"),
    "IU/L": ("U/L",),
    "no unit": ("", "1"),
}
_CONVERSIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "crea": {"µmol/L": (1 / 88.42, 0)},
    "bili": {"µmol/L": (1 / 17.104, 0)},
    "bili_dir": {"µmol/L": (1 / 17.104, 0)},
    "bun": {"mmol/L": (2.801, 0)},  # urea in mmol/L as nitrogen in mg/dL
    "glu": {"mmol/L": (18.016, 0)},
    "ca": {"mmol/L": (4.008, 0)},
    "mg": {"mmol/L": (2.431, 0)},
    "phos": {"mmol/L": (3.097, 0)},
    "lact": {"mg/dL": (1 / 9.008, 0)},
    "alb": {"g/L": (0.1, 0)},
    "hgb": {"g/L": (0.1, 0), "mmol/L": (1.611, 0)},
    "mchc": {"g/L": (0.1, 0)},
    "crp": {"mg/dL": (10, 0)},
    "fgn": {"g/L": (100, 0)},
    "tnt": {"ng/L": (0.001, 0), "pg/mL": (0.001, 0)},
    "ckmb": {"µg/L": (1, 0)},
    "pco2": {"kPa": (7.50062, 0)},
    "po2": {"kPa": (7.50062, 0)},
    "temp": {"°F": (5 / 9, -160 / 9), "F": (5 / 9, -160 / 9)},
    "fio2": {"fraction": (100, 0), "1": (100, 0)},
    "mcv": {"µm3": (1, 0)},
}
"""By concept and unit: ``ours = factor · theirs + offset``."""


def conversion(concept: Concept, unit: str) -> tuple[float, float] | None:
    """``(factor, offset)`` from ``unit`` to the concept's own; None where none is known."""
    wanted = _plain(unit)
    if wanted == _plain(concept.unit) or wanted in map(_plain, _SAME.get(concept.unit, ())):
        # a divalent ion in mEq/L isn't in mmol/L; none of ours is kept in mEq/L
        return 1.0, 0.0
    for name, rule in _CONVERSIONS.get(concept.name, {}).items():
        if wanted == _plain(name):
            return rule
    return None


def _plain(unit: str) -> str:
    return unit.strip().replace(" ", "").replace("\u03bc", "µ").replace("umol", "µmol").replace("/uL", "/µL").lower()
