"""95 % intervals by patient: whole patients are drawn, so that ten images of one person don't count as ten people."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation.result import ScoreResult

MIN_PATIENTS = 5
"""Fewer test patients than this give n and no interval."""

Metric = Callable[[np.ndarray], np.ndarray]
"""``weights [draws, n] -> values [draws]``, NaN where the score does not exist for a draw."""

_BLOCK = 2_000_000  # weights held at once as floats: 16 MB, beside the table of counts


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number with its interval, or without a number and the reason why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    """Why there is no value, or no interval."""
    skipped_draws: int = 0
    """Draws left out because the score did not exist for them (a class was missing)."""


def score_json(value: Score) -> ScoreResult:
    """A Score as it stands in a result file."""
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "reason": value.reason,
        "skipped_draws": value.skipped_draws,
    }


def patient_draws(patients: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """How often each sample counts in each bootstrap draw: whole numbers ``[draws, n]``, equal for samples of one patient.

    The draws depend on the seed and on the patients alone, so two methods on the same samples share them.
    """
    return _draws(tuple(patients), draws, seed)


@lru_cache(maxsize=2)  # all methods on one task share its table, and that of its primary group
def _draws(patients: tuple[str, ...], draws: int, seed: int) -> np.ndarray:
    from fedkim.randomness import numpy_generator_for  # imports torch; scoring itself doesn't need it

    unique, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    count = len(unique)
    random = numpy_generator_for(seed, "bootstrap", count)
    picks = random.integers(count, size=(draws, count)) + np.arange(draws)[:, None] * count
    counts = np.bincount(picks.ravel(), minlength=draws * count).reshape(draws, count)
    table = counts.astype(np.uint16 if count < 2**16 else np.uint32)[:, owner]  # an eighth or a quarter of floats
    table.setflags(write=False)
    return table


def score(metric: Metric, patients: Sequence[str], *, draws: int = 1000, seed: int = 0, absent: str = "") -> Score:
    """The score of all samples with its percentile interval over patients.

    Args:
        metric: the score as a function of weights.
        patients: one per sample.
        draws: bootstrap draws; 0 gives the value alone.
        seed: equal seeds give equal intervals.
        absent: why the score would not exist, told if it doesn't.
    """
    if len(patients) == 0:
        return Score(value=None, reason="no samples")
    return scores(lambda weights: {"": metric(weights)}, patients, draws=draws, seed=seed, absent={"": absent})[""]


def scores(
    table: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    patients: Sequence[str],
    *,
    draws: int = 1000,
    seed: int = 0,
    absent: Mapping[str, str] | None = None,
) -> dict[str, Score]:
    """Several scores that one function gives together, by name; arguments as in :func:`score`."""
    n = len(patients)
    if n == 0:
        return {name: Score(value=None, reason="no samples") for name in table(np.ones((1, 0)))}
    values = {name: float(value[0]) for name, value in table(np.ones((1, n))).items()}
    num_patients = len(set(patients))
    drawn: dict[str, np.ndarray] = {}
    why = ""
    if draws == 0:
        why = "no interval asked for"
    elif num_patients < MIN_PATIENTS:
        why = f"no interval: {num_patients} patients, fewer than {MIN_PATIENTS}"
    else:
        drawn = _by_block(table, patient_draws(patients, draws, seed))
    result = {}
    for name, value in values.items():
        if not np.isfinite(value):
            reason = (absent or {}).get(name) or "not defined on these samples"
            result[name] = Score(value=None, reason=reason)
        elif why:
            result[name] = Score(value=value, reason=why)
        else:
            result[name] = _with_interval(value, drawn[name])
    return result


def difference(first: Metric, second: Metric, patients: Sequence[str], *, draws: int = 1000, seed: int = 0) -> Score:
    """First minus second on the same samples, paired: both are computed on the same draws of patients."""

    def minus(weights: np.ndarray) -> np.ndarray:
        return first(weights) - second(weights)

    return score(minus, patients, draws=draws, seed=seed)


def mean_within(metric_of: Callable[[np.ndarray], Metric], folds: Sequence[str]) -> Metric:
    """The mean over folds of a score computed inside each; folds in which it does not exist are left out.

    In a bootstrap draw a fold counts as often as its patients were drawn, so that folds of a single patient work too.

    Args:
        metric_of: gives the score of the samples at some positions (``[k]`` int), as a function of *their* weights.
        folds: each sample's fold.
    """
    names = np.asarray(folds, dtype=str)
    positions = [np.flatnonzero(names == name) for name in np.unique(names)]
    inside = [metric_of(kept) for kept in positions]

    def mean(weights: np.ndarray) -> np.ndarray:
        values = np.stack([metric(weights[:, kept]) for metric, kept in zip(inside, positions)])
        shares = np.stack([weights[:, kept].mean(axis=1) for kept in positions]) * np.isfinite(values)
        total = shares.sum(axis=0)
        summed = (shares * np.nan_to_num(values)).sum(axis=0)
        return np.divide(summed, total, out=np.full(len(weights), np.nan), where=total > 0)

    return mean


def average(values: np.ndarray) -> Metric:
    """The mean of one number per sample (``[n]``) as a metric."""
    column = np.asarray(values, dtype=np.float64)

    def mean(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        return np.divide(weights @ column, total, out=np.full(len(weights), np.nan), where=total > 0)

    return mean


def require_same(first: Sequence[str], second: Sequence[str], what: str) -> None:
    """Refuse to compare two methods on different samples.

    Raises:
        FedkimError: the samples differ, or stand in another order.
    """
    if tuple(first) != tuple(second):
        raise FedkimError(
            what, found="two methods scored on different samples", expected="the same samples in the same order"
        )


def _with_interval(value: float, drawn: np.ndarray) -> Score:
    """The middle 95 % of the draws in which the score exists; no interval where it is missing in most of them."""
    known = drawn[np.isfinite(drawn)]
    skipped = len(drawn) - len(known)
    if skipped > len(known):
        reason = f"no interval: the score does not exist in {skipped} of {len(drawn)} draws"
        return Score(value=value, reason=reason, skipped_draws=skipped)
    low, high = np.percentile(known, [2.5, 97.5])
    return Score(value=value, low=float(low), high=float(high), skipped_draws=skipped)


def _by_block(table: Callable[[np.ndarray], Mapping[str, np.ndarray]], draws_Dn: np.ndarray) -> dict[str, np.ndarray]:
    """Each score of each draw, computed a block of draws at a time."""
    step = max(1, _BLOCK // max(1, draws_Dn.shape[1]))
    blocks = [table(draws_Dn[start : start + step].astype(np.float64)) for start in range(0, len(draws_Dn), step)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
