"""Stays: a day of hourly vital signs, laboratory results, inputs and outputs, drawn from factors for a whole chunk.

Each finding pushes many measurements a little, so that no single one gives it away; patients differ more from each
other than the findings move them. Four organ systems drift over the day (random walks), laboratories measure a few
times a day, and sicker patients are measured slightly more often.
"""

import numpy as np

from fedkim.data.phantom.factors import FINDINGS, Factors
from fedkim.modalities.concepts import CONCEPTS, Concept
from fedkim.modalities.series import HOURS

# B patients of a chunk, H hours, F concepts of all four groups

_SHARED = ("hr", "lact", "map", "plt", "hgb", "k")
PUSHES: dict[str, dict[str, float]] = {
    "mortality": {
        **dict.fromkeys(
            ("hr", "resp", "fio2", "bun", "crea", "lact", "inr_pt", "bili", "ast", "k", "phos", "ptt"), 1.0
        ),
        **dict.fromkeys(("sbp", "dbp", "map", "o2sat", "urine", "ph", "be", "bicar", "alb", "plt", "po2", "hgb"), -1.0),
    },
    "sepsis": {
        **dict.fromkeys(("temp", "wbc", "crp", "bnd", "neut", "fgn", "glu", "ck", "hr", "lact", "plt", "hgb"), 1.0),
        **dict.fromkeys(("lymph", "ca", "cai", "pco2", "mg", "na", "map", "k"), -1.0),
    },
}
"""By task: the direction in which it moves each measurement.

Three measurements move the same way and three opposite ways, so that a good reader of one finding says nothing about
the other unless ρ links their causes; these six are moved less, or two linked findings would show in one of them. (In patients they are related; the knob would then have no zero.)
"""

LOADING = {"mortality": 0.36, "sepsis": 0.36}
"""How far one standard deviation of severity moves a measurement, in standard deviations between patients."""

_SYSTEMS = 4
_DENSITY = (1.0, 0.75, 1.25, 0.85, 1.1)
"""Sites measure more or less often."""
_EVERY = {"vitals": 0.88, "labs": 0.22, "inputs": 0.40, "outputs": 0.65}
"""Chance that an hour has a measurement."""

_ALL: tuple[Concept, ...] = tuple(concept for group in CONCEPTS.values() for concept in group)


def render(factors: Factors, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values in the concepts' own units, NaN where not measured: by modality, float32 ``[B, 24, F]``, of one chunk."""
    num, width = len(factors), len(_ALL)
    own = random.standard_normal((num, 1, width), dtype=np.float32)
    system = np.arange(width) % _SYSTEMS
    walks = np.cumsum(random.standard_normal((num, HOURS, _SYSTEMS), dtype=np.float32), axis=1) * np.float32(0.12)
    hourly = random.standard_normal((num, HOURS, width), dtype=np.float32)
    scaled = 0.85 * own + 0.5 * walks[:, :, system] + 0.45 * hourly
    # findings grow over the day: a third at admission, all at its end
    growth = np.linspace(0.33, 1.0, HOURS, dtype=np.float32)[None, :, None]
    for task, pushes in PUSHES.items():
        direction = np.array([pushes.get(c.name, 0.0) * (0.7 if c.name in _SHARED else 1) for c in _ALL], np.float32)
        excess = factors.severities[task] - np.float32(FINDINGS[task].threshold)
        scaled = scaled + np.float32(LOADING[task]) * excess[:, None, None] * growth * direction
    values = _in_units(scaled)
    values[~_measured(factors, random)] = np.nan
    parts, start = {}, 0
    for modality, group in CONCEPTS.items():
        parts[modality] = values[:, :, start : start + len(group)]
        start += len(group)
    return parts


def _in_units(scaled_BHF: np.ndarray) -> np.ndarray:
    """Standard deviations as values in each concept's unit, inside its plausible range."""
    low, high, mean, sd = (
        np.array([getattr(c, key) for c in _ALL], np.float32) for key in ("low", "high", "mean", "sd")
    )
    log = np.array([concept.log for concept in _ALL])
    moved = mean + 0.8 * sd * scaled_BHF
    return np.clip(np.where(log, np.expm1(np.minimum(moved, 20)), moved), low, high).astype(np.float32)


def _measured(factors: Factors, random: np.random.Generator) -> np.ndarray:
    """Which hours have a measurement, bool ``[B, 24, F]``."""
    num, width = len(factors), len(_ALL)
    often = np.concatenate([np.full(len(group), _EVERY[modality]) for modality, group in CONCEPTS.items()])
    density = np.array(_DENSITY)[factors.traits["site"] % len(_DENSITY)]
    sick = np.exp(0.03 * factors.severities["mortality"])
    chance = often * (density * sick)[:, None]
    ordered = (random.random((num, width)) < 0.9) | (often > 0.3)  # some laboratories are never asked for
    hours = random.random((num, HOURS, width), dtype=np.float32) < np.minimum(chance, 0.97)[:, None, :]
    return hours & ordered[:, None, :]
