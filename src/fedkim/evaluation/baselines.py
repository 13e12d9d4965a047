"""Reference rows that need no model: the majority answer, the majority per question template, and the proxy head."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation.metrics import auroc
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.text import normalise


def majority(predictions: Predictions) -> Predictions:
    """The scored samples' own commonest answer given to everyone, with certainty: the most that a constant answer can reach."""
    commonest = _commonest(predictions.truth)
    if predictions.kind == "text":
        return replace(predictions, generated=(commonest,) * len(predictions))
    assert predictions.answers is not None
    table = np.zeros((len(predictions), len(predictions.answers)))
    table[:, predictions.answers.index(commonest)] = 1.0
    return replace(predictions, probabilities=table)


def majority_per_template(predictions: Predictions) -> Predictions:
    """For free text: the commonest answer to each question template. What the wording of the question alone gives away."""
    if not predictions.templates:
        raise FedkimError(
            f"majority per template of task {predictions.task!r}", found="no templates", expected="one per sample"
        )
    by_template: dict[str, list[str]] = {}
    for template, truth in zip(predictions.templates, predictions.truth):
        by_template.setdefault(template, []).append(truth)
    best = {template: _commonest(tuple(truths)) for template, truths in by_template.items()}
    return replace(predictions, generated=tuple(best[template] for template in predictions.templates))


def choose_proxy(development: Predictions, heads: Mapping[str, np.ndarray]) -> str | None:
    """The seen task whose head best answers an unseen task, chosen on development by AUROC.

    Args:
        development: the unseen task's development samples (their truth; the probabilities don't matter).
        heads: by seen task, the score of its head on the same samples, ``[n]``.

    Returns:
        The seen task's name; None where development is empty or lacks a class, or there is no head.
    """
    if not len(development):
        return None
    positive = development.labels == len(development.answers or ()) - 1
    ones = np.ones((1, len(development)))
    scored = {task: float(auroc(positive, np.asarray(values), ones)[0]) for task, values in sorted(heads.items())}
    known = {task: value for task, value in scored.items() if np.isfinite(value)}
    return max(known, key=lambda task: known[task]) if known else None


def _commonest(truths: tuple[str, ...]) -> str:
    """The commonest answer, answers that normalise alike counted together; of equals the alphabetically first."""
    if not truths:
        raise FedkimError("the majority answer", found="no samples to count", expected="at least one")
    plain = {truth: normalise(truth) for truth in set(truths)}
    counts = Counter(plain[truth] for truth in truths)
    best = min(counts, key=lambda key: (-counts[key], key))
    return min(truth for truth in plain if plain[truth] == best)
