"""From predictions to numbers: one method's row, and a task's entry with all its rows side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation import text
from fedkim.evaluation.baselines import majority, majority_per_template
from fedkim.evaluation.blindness import Scores, question_blindness
from fedkim.evaluation.class_rows import (
    area,
    area_within_folds,
    at_tuned_threshold,
    class_row,
    decisions,
    missing_answers,
)
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.result import RowResult, ScoreResult, TaskResult
from fedkim.evaluation.statistics import Metric, average, difference, patient_draws, require_same, score, score_json
from fedkim.evaluation.text_rows import text_row

PRIMARY = {"classification": "auroc", "text": "exact_match"}
"""The score a task is judged by."""


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
    rows = text_row if predictions.kind == "text" else class_row
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
        row["tuned"] = at_tuned_threshold(part, development.primary(), draws, seed)
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
    if main.within is not None and "majority" not in rows and len(part):
        # inside the group the commonest answer may be another
        inside = score_task(majority(part), draws=draws, seed=seed)
        scored["majority"]["group"], scored["majority"]["primary"] = inside["group"], inside["primary"]
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
            name: score_json(difference(*_compared(name, part, p.primary()), part.patients, draws=draws, seed=seed))
            for name, p in rows.items()
            if p is not main and len(part)
        },
        "sites": score_sites(main, draws=draws, seed=seed),
        "blindness": question_blindness(_scores_by_sample(main), asked) if asked and main.answers else {},
    }


def score_at(predictions: Predictions, threshold: float, *, draws: int = 1000, seed: int = 0) -> dict[str, ScoreResult]:
    """The scores that depend on a threshold, at one that was chosen elsewhere."""
    return decisions(predictions.primary(), threshold, draws, seed)


def score_sites(predictions: Predictions, *, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """The primary score at each site, and the worst: ``{"by_site": {site: {n, patients, value, …}}, "worst": …}``."""
    part = predictions.primary()
    by_site: dict[str, dict[str, Any]] = {}
    for site in sorted(set(part.sites)):
        here = part.take([name == site for name in part.sites])
        value = score(_primary_metric(here), here.patients, draws=draws, seed=seed, absent=missing_answers(here))
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
    return _primary_metric(part)(patient_draws(part.patients, draws, seed).astype(np.float64))


def _primary_metric(p: Predictions) -> Metric:
    if p.kind == "text":
        assert p.generated is not None
        return average(np.array([text.exact_match(answer, truth) for answer, truth in zip(p.generated, p.truth)]))
    assert p.probabilities is not None
    return area(p.labels, p.probabilities, "auroc")


def _compared(name: str, injected: Predictions, other: Predictions) -> tuple[Metric, Metric]:
    """The primary scores of a difference.

    The proxy is another head in every fold, so between folds its scores say nothing: over folds both are means of what they
    are within each. Raw scores of the injected model would gain from a fold's prevalence alone.
    """
    if name == "proxy" and injected.folds and injected.kind == "classification":
        return area_within_folds(injected), area_within_folds(other)
    return _primary_metric(injected), _primary_metric(other)


def _scores_by_sample(p: Predictions) -> dict[str, float]:
    return dict(zip(p.samples, p.scores.tolist()))
