"""What several seeds can decide: t-intervals of paired differences, Holm's adjustment, the smallest detectable difference.

A seed draws patients, splits, sites and first weights anew, so seeds are the unit of every claim about *methods*; the
bootstrap over patients (``statistics``) belongs to one run's scores alone.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

LEVEL = 0.05
"""Family-wise error rate of the claims; intervals are 1 − LEVEL wide."""

POWER = 0.8
"""Chance with which the smallest detectable difference is found."""

MEASURABLE = 2.0
"""Points: a comparison that can't see a difference of this size isn't measurable with these seeds."""

HOLDS, FAILS, UNMEASURABLE, MISSING = "holds", "doesn't hold", "not measurable here", "missing cells"


@dataclass(frozen=True, kw_only=True)
class PairedSeeds:
    """Differences of two methods seed by seed, in points, and what follows from them."""

    num_seeds: int
    mean: float
    low: float
    """Bounds of the t-interval, 95 % unless asked otherwise."""
    high: float
    p: float
    """Two-sided, of no difference, before Holm's adjustment."""
    detectable: float
    """The smallest true difference that a two-sided test on so many seeds finds with 80 % power."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said about one claim."""

    word: str
    """``holds``, ``doesn't hold``, ``not measurable here`` or ``missing cells``."""
    side: str
    """``above 0`` or ``below 0`` where Holm's p is below LEVEL, whatever the word; else empty."""
    adjusted_p: float | None
    """Holm's, over all claims that had cells."""
    paired: PairedSeeds | None


def paired_seeds(differences: Sequence[float], *, level: float = LEVEL) -> PairedSeeds | None:
    """The differences' mean with its t-interval (1 − ``level`` wide); None below two seeds, where nothing can be said.

    Equal differences have no spread: the interval is a point, and p is 0, or 1 where the point is zero.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n < 2:
        return None
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        still = abs(mean) <= 1e-12
        return PairedSeeds(num_seeds=n, mean=mean, low=mean, high=mean, p=1.0 if still else 0.0, detectable=0.0)
    from scipy.stats import t

    error = spread / math.sqrt(n)
    half = float(t.ppf(1 - level / 2, n - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, n - 1))
    return PairedSeeds(num_seeds=n, mean=mean, low=mean - half, high=mean + half, p=p, detectable=detectable(spread, n))


def t_statistic(differences: Sequence[float]) -> float:
    """Mean over standard error; without spread infinite, of the mean's sign; 0 where all are, and below two seeds."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return 0.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if error:
        return mean / error
    return math.copysign(math.inf, mean) if mean else 0.0


def detectable(spread: float, num_seeds: int) -> float:
    """The true difference that a two-sided paired t-test finds with 80 % power, for differences of this deviation.

    Solved on the noncentral t distribution, because with five seeds the normal approximation promises a third too much.
    """
    if num_seeds < 2:
        return math.inf
    return _detectable_shift(num_seeds - 1) * spread / math.sqrt(num_seeds)


@cache
def _detectable_shift(degrees: int) -> float:
    """In standard errors. Tables ask for hundreds of differences and two or three numbers of seeds."""
    from scipy.optimize import brentq

    return float(brentq(lambda shift: power(shift, degrees) - POWER, 1e-6, 200.0))


def power(shift: float, degrees: int) -> float:
    """Chance that a two-sided t-test rejects when the true mean lies ``shift`` standard errors from zero."""
    from scipy.stats import nct, t

    edge = t.ppf(1 - LEVEL / 2, degrees)
    upper = float(nct.sf(edge, degrees, shift))
    lower = float(nct.cdf(-edge, degrees, shift))
    return upper + (lower if math.isfinite(lower) else 0.0)  # far out the lower tail underflows to nan: it is nothing


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: below LEVEL at a family-wise error of LEVEL, whatever depends on what."""
    ordered = sorted(p_values, key=lambda name: (p_values[name], name))
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def verdicts(differences: Mapping[str, Sequence[float] | None], *, joint: Collection[str] = ()) -> dict[str, Verdict]:
    """By claim: does its difference (points, by seed) lie above zero?

    Where seeds that spread so much would have missed a difference of two points, the claim is *not measurable here*: such a
    design can't tell two points from none, and a significant figure from it is likely to be too large. ``side`` says
    then which sign is certain. Where two points would have been seen, the claim *holds* if the mean is positive and Holm's p
    below LEVEL, and else *doesn't hold*. None stands for missing cells. ``joint`` claims are each the least certain of several
    differences: one that lies below 0 was picked for it, so it has p = 1.
    """
    paired = {name: paired_seeds(values) if values is not None else None for name, values in differences.items()}
    adjusted = holm(
        {name: 1.0 if name in joint and one.mean <= 0 else one.p for name, one in paired.items() if one is not None}
    )
    found = {}
    for name, one in paired.items():
        if one is None:
            found[name] = Verdict(word=MISSING, side="", adjusted_p=None, paired=None)
            continue
        side = ("above 0" if one.mean > 0 else "below 0") if adjusted[name] < LEVEL else ""
        holds = HOLDS if side == "above 0" else FAILS
        word = UNMEASURABLE if one.detectable > MEASURABLE else holds
        found[name] = Verdict(word=word, side=side, adjusted_p=adjusted[name], paired=one)
    return found
