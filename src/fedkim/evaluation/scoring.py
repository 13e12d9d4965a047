"""From predictions to numbers: one method's row, and a task's entry with all its rows side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation import metrics, text
from fedkim.evaluation.baselines import majority, majority_per_template
from fedkim.evaluation.blindness import Scores, question_blindness
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.result import RowResult, ScoreResult, TaskResult
from fedkim.evaluation.statistics import (
    Metric,
    Score,
    average,
    difference,
    mean_within,
    patient_draws,
    require_same,
    score,
    scores,
)

PRIMARY = {"classification": "auroc", "text": "exact_match"}
"""The score a task is judged by."""

_TEXT_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": text.exact_match,
    "token_f1": text.token_f1,
    "bleu_1": text.bleu_1,
    "rouge_1": text.rouge_1,
    "meteor_no_synonyms": text.meteor_no_synonyms,
}


def score_task(
    predictions: Predictions, development: Predictions | None = None, *, draws: int = 1000, seed: int = 0
) -> RowResult:
    """All scores of one method on one task, JSON-ready.

    Args:
        predictions: the scored split.
        development: the same method on the development split of a *seen* task, from which a second threshold is tuned;
            None for unseen tasks, whose labels may not be used.
        draws: bootstrap draws over patients.
        seed: equal seeds give equal intervals.

    Raises:
        FedkimError: ``development`` is not the development split, or shares patients with the scored one.
    """
    name = PRIMARY[predictions.kind]
    part = predictions.primary()
    rows = _text_row if predictions.kind == "text" else _class_row
    row = rows(predictions, draws, seed)
    inside = row if predictions.within is None else rows(part, draws, seed)
    if predictions.within is not None:
        row["group"] = {"name": predictions.within, **inside}
    row["primary"] = {
        "metric": name,
        "within": predictions.within,
        "n": inside["n"],
        "patients": inside["patients"],
        **inside["metrics"][name],
    }
    if development is not None and predictions.kind == "classification":
        row["tuned"] = _tuned(predictions, development.primary(), draws, seed)
    return row


def score_rows(
    rows: Mapping[str, Predictions],
    *,
    seen: bool,
    development: Mapping[str, Predictions] | None = None,
    asked: Mapping[str, Scores] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> TaskResult:
    """A task's entry in ``result["metrics"]``: every row, majority added, differences, sites, question-blindness.

    Args:
        rows: predictions by row name, all on the same samples; ``"injected"`` is the one the others are compared with.
            The proxy's row is a :class:`Predictions` with the seen head's probabilities.
        seen: whether the task was trained on.
        development: by row name, predictions on the development split (seen tasks only).
        asked: for an unseen task, by seen task: the injected model's scores of *that* question on this task's inputs.
        draws: bootstrap draws over patients.
        seed: equal seeds give equal intervals.

    Raises:
        FedkimError: rows on different samples, or development predictions for an unseen task.
    """
    if not rows:
        raise FedkimError("scores of a task", found="no row", expected="at least one method's predictions")
    names = list(rows)
    main = rows.get("injected", rows[names[0]])
    if development and not seen:
        raise FedkimError(
            f"unseen task {main.task!r}",
            found="development predictions",
            expected="none: a threshold tuned on its labels would not be zero-shot",
        )
    for predictions in rows.values():
        require_same(main.samples, predictions.samples, f"rows of task {main.task!r}")
        require_same(main.truth, predictions.truth, f"truth of task {main.task!r}")
    development = development or {}
    known = {**rows}
    if len(main):
        known.setdefault("majority", majority(main))
        if main.kind == "text" and main.templates:
            known.setdefault("majority_per_template", majority_per_template(main))
    scored = {name: score_task(p, development.get(name), draws=draws, seed=seed) for name, p in known.items()}
    part = main.primary()
    return {
        "task": main.task,
        "seen": seen,
        "kind": main.kind,
        "split": main.split,
        "n": len(main),
        "patients": len(set(main.patients)),
        "primary_metric": PRIMARY[main.kind],
        "within": main.within,
        "rows": scored,
        "differences": {
            name: score_json(
                difference(_primary_metric(part), _primary_metric(p.primary()), part.patients, draws=draws, seed=seed)
            )
            for name, p in rows.items()
            if p is not main and len(part)
        },
        "sites": score_sites(main, draws=draws, seed=seed),
        "blindness": question_blindness(_scores_by_sample(main), asked) if asked and main.answers else {},
    }


def score_at(predictions: Predictions, threshold: float, *, draws: int = 1000, seed: int = 0) -> dict[str, ScoreResult]:
    """The scores that depend on a threshold, at one that was chosen elsewhere."""
    return _decisions(predictions.primary(), threshold, draws, seed)


def score_sites(predictions: Predictions, *, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The primary score at each site, and the worst: ``{"by_site": {site: {n, patients, value, …}}, "worst": …}``."""
    part = predictions.primary()
    by_site: dict[str, dict[str, Any]] = {}
    for site in sorted(set(part.sites)):
        here = part.take([name == site for name in part.sites])
        value = score(_primary_metric(here), here.patients, draws=draws, seed=seed, absent=_missing(here))
        by_site[site] = {"n": len(here), "patients": len(set(here.patients)), **score_json(value)}
    known = {site: entry["value"] for site, entry in by_site.items() if entry["value"] is not None}
    worst = min(known, key=lambda site: known[site]) if known else None
    return {
        "metric": PRIMARY[predictions.kind],
        "by_site": by_site,
        "worst": None if worst is None else {"site": worst, **by_site[worst]},
    }


def primary_draws(predictions: Predictions, *, draws: int, seed: int) -> np.ndarray:
    """The primary score in each bootstrap draw of patients, ``[draws]``, NaN where it doesn't exist; none for no samples."""
    part = predictions.primary()
    if not len(part):
        return np.zeros(0)
    return _primary_metric(part)(patient_draws(part.patients, draws, seed))


def score_json(value: Score) -> ScoreResult:
    """A Score as it stands in a result file."""
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "reason": value.reason,
        "skipped_draws": value.skipped_draws,
    }


def _class_row(p: Predictions, draws: int, seed: int) -> RowResult:
    labels, answers = p.labels, p.answers or ()
    absent = _missing(p)
    values: dict[str, ScoreResult] = {}
    assert p.probabilities is not None
    table = p.probabilities
    for name in ("auroc", "auprc"):
        values[name] = score_json(score(_area(labels, table, name), p.patients, draws=draws, seed=seed, absent=absent))
    values["ece"] = score_json(
        score(lambda w: metrics.calibration_error(labels, table, w), p.patients, draws=draws, seed=seed)
    )
    values.update(_decisions(p, 0.5, draws, seed))
    if p.folds:
        values["auroc_within_folds"] = _within_folds(p, draws, seed)
    return {
        "n": len(p),
        "patients": len(set(p.patients)),
        "counts": {answer: int((labels == k).sum()) for k, answer in enumerate(answers)},
        "threshold": 0.5 if len(answers) == 2 else None,
        "metrics": values,
    }


def _within_folds(p: Predictions, draws: int, seed: int) -> ScoreResult:
    """Mean over folds of the AUROC inside each, told when some folds lack a class."""
    assert p.probabilities is not None
    labels, table = p.labels, p.probabilities
    inside = mean_within(lambda kept: _area(labels[kept], table[kept], "auroc"), p.folds)
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


def _decisions(p: Predictions, threshold: float, draws: int, seed: int) -> dict[str, ScoreResult]:
    """The scores that depend on a threshold, each with why it may not exist."""
    assert p.probabilities is not None
    labels, num_classes = p.labels, len(p.answers or ())
    predicted = metrics.decide(p.probabilities, threshold)
    absent = _missing(p)

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


def _tuned(p: Predictions, development: Predictions, draws: int, seed: int) -> dict[str, Any]:
    """Scores at the threshold with the best balanced accuracy on development."""
    if development.split != "development":
        raise FedkimError(
            f"threshold of task {p.task!r}", found=f"the {development.split} split", expected="the development split"
        )
    if p.split != "development" and set(p.samples) & set(development.samples):
        raise FedkimError(f"threshold of task {p.task!r}", found="test samples among development's")
    source = "development, best balanced accuracy"
    if len(p.answers or ()) != 2:
        return {"threshold": None, "source": source, "reason": "more than two answers: the likeliest is taken"}
    threshold = metrics.best_threshold(development.labels == 1, development.scores) if len(development) else None
    if threshold is None:
        return {"threshold": None, "source": source, "reason": f"on development: {_missing(development)}"}
    return {"threshold": threshold, "source": source, "metrics": _decisions(p, threshold, draws, seed)}


def _text_row(p: Predictions, draws: int, seed: int) -> RowResult:
    assert p.generated is not None
    closed = np.array([text.is_closed(truth) for truth in p.truth], dtype=bool)
    parsed = [text.parse_yes_no(answer) for answer in p.generated]
    right = np.array([got is not None and got == text.normalise(truth) for got, truth in zip(parsed, p.truth)])
    empty = np.array([text.is_empty(answer) for answer in p.generated])
    lost = np.array([got is None for got in parsed])
    columns: dict[str, np.ndarray | str] = {}
    for name, function in _TEXT_METRICS.items():
        try:
            columns[name] = np.array([function(answer, truth) for answer, truth in zip(p.generated, p.truth)])
        except FedkimError as error:  # an extra that isn't installed: told beside the score, the others stand
            columns[name] = str(error)
    columns["empty_rate"] = empty

    def mean(column: np.ndarray | str, keep: np.ndarray) -> ScoreResult:
        if isinstance(column, str):
            return {"value": None, "low": None, "high": None, "reason": column, "skipped_draws": 0}
        patients = [patient for patient, kept in zip(p.patients, keep) if kept]
        return score_json(score(average(column[keep]), patients, draws=draws, seed=seed))

    everything = np.ones(len(p), dtype=bool)
    return {
        "n": len(p),
        "patients": len(set(p.patients)),
        "metrics": {name: mean(column, everything) for name, column in columns.items()},
        "closed": {
            "n": int(closed.sum()),
            "metrics": {
                "accuracy": mean(right, closed),
                "exact_match": mean(columns["exact_match"], closed),
                "unparsable_rate": mean(lost, closed),
            },
        },
        "open": {
            "n": int((~closed).sum()),
            "metrics": {name: mean(columns[name], ~closed) for name in ("exact_match", "token_f1")},
        },
    }


def _primary_metric(p: Predictions) -> Metric:
    if p.kind == "text":
        assert p.generated is not None
        return average(np.array([text.exact_match(answer, truth) for answer, truth in zip(p.generated, p.truth)]))
    assert p.probabilities is not None
    return _area(p.labels, p.probabilities, "auroc")


def _area(labels: np.ndarray, table: np.ndarray, name: str) -> Metric:
    return lambda weights: metrics.one_versus_rest(labels, table, weights, name)


def _missing(p: Predictions) -> str:
    """Which classes no sample has, in words; empty if none is missing."""
    absent = [answer for answer in p.answers or () if answer not in set(p.truth)]
    return f"no sample with the answer {' or '.join(repr(answer) for answer in absent)}" if absent else ""


def _scores_by_sample(p: Predictions) -> dict[str, float]:
    return dict(zip(p.samples, p.scores.tolist()))
