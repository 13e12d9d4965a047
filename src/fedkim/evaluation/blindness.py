"""Question-blindness: does the model hear the question, or does it give every question on an input the same answer?"""

from collections.abc import Mapping

import numpy as np

Scores = Mapping[str, float]
"""The score (probability of the last answer) by sample id."""


def question_blindness(unseen: Scores, seen: Mapping[str, Scores]) -> dict[str, dict]:
    """Correlation of an unseen task's scores with each seen task's, over the inputs both were asked about.

    Near 1 means that the unseen question is answered as if it were the seen one; whatever AUROC it then has belongs to
    the seen task. Gives per seen task ``{"pearson", "spearman", "n", "reason"}``; a correlation is None, with the
    reason, where fewer than three inputs are shared or one side is constant.
    """
    return {task: _correlation(unseen, scores) for task, scores in seen.items()}


def worst_blindness(table: Mapping[str, Mapping]) -> tuple[str, float] | None:
    """The seen task with the largest absolute Pearson correlation, and that correlation; None if there is none."""
    known = [(task, entry["pearson"]) for task, entry in table.items() if entry["pearson"] is not None]
    return max(known, key=lambda pair: abs(pair[1])) if known else None


def _correlation(first: Scores, second: Scores) -> dict:
    shared = sorted(first.keys() & second.keys())
    a = np.array([first[sample] for sample in shared], dtype=np.float64)
    b = np.array([second[sample] for sample in shared], dtype=np.float64)
    reason = ""
    if len(shared) < 3:
        reason = "fewer than three shared inputs"
    elif np.ptp(a) == 0 or np.ptp(b) == 0:
        reason = "one of the two gives every input the same score"
    if reason:
        return {"pearson": None, "spearman": None, "n": len(shared), "reason": reason}
    from scipy.stats import rankdata

    return {
        "pearson": float(np.corrcoef(a, b)[0, 1]),
        "spearman": float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]),
        "n": len(shared),
        "reason": "",
    }
