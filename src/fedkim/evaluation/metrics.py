"""Scores of classifications, each as one formula over weighted samples.

Every function takes ``weights`` of shape ``[draws, n]`` and returns ``[draws]`` values: one row of ones gives the score
itself, rows of resampling counts give a thousand bootstrap scores in one pass, and the two can't disagree about the
formula. Where a score does not exist (a class is missing, nothing was predicted positive) the value is NaN *here*;
outside this room it becomes None with a reason, never NaN and never 0. The tests hold each against scikit-learn.
"""

# D draws, n samples, K classes, G groups of tied scores

from collections.abc import Mapping

import numpy as np

ECE_BINS = 15
"""Equal-width bins of the confidence (Guo et al. 2017)."""

THRESHOLD_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc")
"""Scores of decisions; they depend on the threshold."""


def auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(a positive scores above a negative), ties counted half. ``positive`` ``[n]`` bool, ``scores`` ``[n]``."""
    hits_DG, misses_DG = _by_score(positive, scores, weights)
    below = np.cumsum(misses_DG, axis=1) - misses_DG
    pairs = hits_DG.sum(axis=1) * misses_DG.sum(axis=1)
    return _ratio((hits_DG * (below + misses_DG / 2)).sum(axis=1), pairs)


def auprc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision: Σ (recall step × precision), from the highest score down, ties as one step."""
    hits_DG, misses_DG = (counts[:, ::-1] for counts in _by_score(positive, scores, weights))
    found = np.cumsum(hits_DG, axis=1)
    named = found + np.cumsum(misses_DG, axis=1)
    precision = np.divide(found, named, out=np.zeros_like(found), where=named > 0)
    area = _ratio((hits_DG * precision).sum(axis=1), hits_DG.sum(axis=1))
    return np.where(misses_DG.sum(axis=1) > 0, area, np.nan)


def one_versus_rest(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, metric: str) -> np.ndarray:
    """``auroc`` or ``auprc`` of ``[n, K]`` probabilities: of the last class if K = 2, else the mean over classes."""
    function = {"auroc": auroc, "auprc": auprc}[metric]
    num_classes = probabilities.shape[1]
    classes = [1] if num_classes == 2 else range(num_classes)
    return np.mean([function(labels == k, probabilities[:, k], weights) for k in classes], axis=0)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error: mean over samples of |accuracy − confidence| of the sample's confidence bin."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gap_nB = (correct - confidence)[:, None] * (bins[:, None] == np.arange(ECE_BINS))
    return _ratio(np.abs(weights @ gap_nB).sum(axis=1), weights.sum(axis=1))


def decide(probabilities: np.ndarray, threshold: float | None) -> np.ndarray:
    """The predicted class ``[n]``: the last one where its probability reaches the threshold (K = 2), else the likeliest."""
    if probabilities.shape[1] == 2 and threshold is not None:
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    return probabilities.argmax(axis=1)


def decision_scores(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, num_classes: int
) -> Mapping[str, np.ndarray]:
    """:data:`THRESHOLD_METRICS` of predicted classes ``[n]``.

    Precision, recall and F1 are those of the positive (last) class for two classes, the mean over classes otherwise;
    MCC is Gorodkin's R_K, which for two classes is Matthews' coefficient.
    """
    K = num_classes
    cells = weights @ np.eye(K * K)[labels * K + predicted]
    table = cells.reshape(-1, K, K)  # [D, true class, predicted class]
    right = np.diagonal(table, axis1=1, axis2=2)
    actual, named, total = table.sum(axis=2), table.sum(axis=1), table.sum(axis=(1, 2))
    recall = _ratio(right, actual)
    precision = np.where(actual > 0, _ratio(right, named), np.nan)
    f1 = np.where(actual > 0, _ratio(2 * right, actual + named), np.nan)
    chosen = slice(1, 2) if K == 2 else slice(None)
    covariance = right.sum(axis=1) * total - (actual * named).sum(axis=1)
    spread = (total**2 - (actual**2).sum(axis=1)) * (total**2 - (named**2).sum(axis=1))
    return {
        "accuracy": _ratio(right.sum(axis=1), total),
        "balanced_accuracy": recall.mean(axis=1),
        "precision": precision[:, chosen].mean(axis=1),
        "recall": recall[:, chosen].mean(axis=1),
        "f1": f1[:, chosen].mean(axis=1),
        "mcc": _ratio(covariance, np.sqrt(spread)),
    }


def best_threshold(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """The threshold with the highest balanced accuracy; of equals the one nearest 0.5. None if a class is missing.

    Candidates are the midpoints between neighbouring distinct scores, and the two that name all samples alike.
    """
    if positive.all() or not positive.any():
        return None
    distinct = np.unique(scores)
    candidates = np.concatenate([[distinct[0]], (distinct[1:] + distinct[:-1]) / 2, [np.nextafter(distinct[-1], 2)]])
    sensitivity = 1 - np.searchsorted(np.sort(scores[positive]), candidates) / positive.sum()
    specificity = np.searchsorted(np.sort(scores[~positive]), candidates) / (~positive).sum()
    balanced = np.round(sensitivity + specificity, 12)
    best = candidates[balanced == balanced.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def _by_score(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, rising: two ``[D, G]`` tables."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sorted_Dn = weights[:, order]
    hits = sorted_Dn * positive[order]
    misses = sorted_Dn - hits
    if len(starts) == len(ranked):  # no ties: nothing to add up
        return hits, misses
    return np.add.reduceat(hits, starts, axis=1), np.add.reduceat(misses, starts, axis=1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``above / below``, NaN where ``below`` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
