"""One method's scores on a task with a closed set of answers: areas, calibration, and decisions at a threshold."""

from itertools import compress
from typing import Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation import metrics
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.result import RowResult, ScoreResult
from fedkim.evaluation.statistics import Metric, mean_within, score, score_json, scores


def class_row(p: Predictions, draws: int, seed: int) -> RowResult:
    """Areas, calibration error, and every decision score at 0.5."""
    labels, answers = p.labels, p.answers or ()
    absent = missing_answers(p)
    values: dict[str, ScoreResult] = {}
    assert p.probabilities is not None
    table = p.probabilities
    for name in ("auroc", "auprc"):
        values[name] = score_json(score(area(labels, table, name), p.patients, draws=draws, seed=seed, absent=absent))
    values["ece"] = score_json(
        score(lambda w: metrics.calibration_error(labels, table, w), p.patients, draws=draws, seed=seed)
    )
    values.update(decisions(p, 0.5, draws, seed))
    if p.folds:
        values["auroc_within_folds"] = _within_folds(p, draws, seed)
    return {
        "n": len(p),
        "patients": len(set(p.patients)),
        "counts": {answer: int((labels == k).sum()) for k, answer in enumerate(answers)},
        "patients_by_answer": {answer: len(set(compress(p.patients, labels == k))) for k, answer in enumerate(answers)},
        "threshold": 0.5 if len(answers) == 2 else None,
        "metrics": values,
    }


def _within_folds(p: Predictions, draws: int, seed: int) -> ScoreResult:
    """Mean over folds of the AUROC inside each, told when some folds lack a class."""
    inside = area_within_folds(p)
    absent = "no fold has a sample of every answer"
    found = score_json(score(inside, p.patients, draws=draws, seed=seed, absent=absent))
    answers_by_fold: dict[str, set[str]] = {fold: set() for fold in p.folds}
    for fold, answer in zip(p.folds, p.truth):
        answers_by_fold[fold].add(answer)
    whole = sum(len(answers) == len(p.answers or ()) for answers in answers_by_fold.values())
    if 0 < whole < len(answers_by_fold):
        note = f"{whole} of {len(answers_by_fold)} folds have a sample of every answer"
        found["reason"] = "; ".join(filter(None, [note, found["reason"]]))
    return found


def decisions(p: Predictions, threshold: float, draws: int, seed: int) -> dict[str, ScoreResult]:
    """The scores that depend on a threshold, each with why it may not exist."""
    assert p.probabilities is not None
    labels, num_classes = p.labels, len(p.answers or ())
    predicted = metrics.decide(p.probabilities, threshold)
    absent = missing_answers(p)

    reasons = dict.fromkeys(metrics.THRESHOLD_METRICS, absent) | {
        "precision": absent or "an answer that was never given",
        "mcc": absent or "every sample was given the same answer",
    }
    found = scores(
        lambda weights: metrics.decision_scores(labels, predicted, weights, num_classes),
        p.patients,
        draws=draws,
        seed=seed,
        absent=reasons,
    )
    return {name: score_json(value) for name, value in found.items()}


def at_tuned_threshold(p: Predictions, development: Predictions, draws: int, seed: int) -> dict[str, Any]:
    """The threshold with the best balanced accuracy on development, and the scores at it; of development's own patients no scores,
    which would be those of the patients it was fitted to.
    """
    if development.split != "development":
        raise FedkimError(
            f"threshold of task {p.task!r}", found=f"the {development.split} split", expected="the development split"
        )
    if p.split != "development" and set(p.patients) & set(development.patients):
        raise FedkimError(f"threshold of task {p.task!r}", found="test patients among development's")
    source = "development, best balanced accuracy"
    if len(p.answers or ()) != 2:
        return {"threshold": None, "source": source, "reason": "more than two answers: the likeliest is taken"}
    threshold = metrics.best_threshold(development.labels == 1, development.scores) if len(development) else None
    if threshold is None:
        return {"threshold": None, "source": source, "reason": f"on development: {missing_answers(development)}"}
    if p.split == "development":
        return {"threshold": threshold, "source": source, "reason": "no scores: it was tuned on these very patients"}
    return {"threshold": threshold, "source": source, "metrics": decisions(p, threshold, draws, seed)}


def area(labels: np.ndarray, table: np.ndarray, name: str) -> Metric:
    """``auroc`` or ``auprc``, one answer against the rest, as a function of the samples' weights."""
    return lambda weights: metrics.one_versus_rest(labels, table, weights, name)


def area_within_folds(p: Predictions) -> Metric:
    """AUROC inside each fold, their mean, as a function of the samples' weights."""
    assert p.probabilities is not None
    labels, table = p.labels, p.probabilities
    return mean_within(lambda kept: area(labels[kept], table[kept], "auroc"), p.folds)


def missing_answers(p: Predictions) -> str:
    """Which classes no sample has, in words; empty if none is missing."""
    absent = [answer for answer in p.answers or () if answer not in set(p.truth)]
    return f"no sample with the answer {' or '.join(repr(answer) for answer in absent)}" if absent else ""
