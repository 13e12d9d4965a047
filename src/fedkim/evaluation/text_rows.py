"""One method's scores on free text: by word, by phrase, and on the questions that ask for a yes or a no."""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation import text
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.result import RowResult, ScoreResult
from fedkim.evaluation.statistics import average, score, score_json

_TEXT_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": text.exact_match,
    "token_f1": text.token_f1,
    "bleu_1": text.bleu_1,
    "rouge_1": text.rouge_1,
    "meteor_no_synonyms": text.meteor_no_synonyms,
}


def text_row(p: Predictions, draws: int, seed: int) -> RowResult:
    """Every text score over all questions, then closed and open ones apart."""
    assert p.generated is not None
    pairs = list(zip(p.generated, p.truth))
    closed = _column(lambda answer, truth: text.is_closed(truth), pairs).astype(bool)
    right = _column(lambda answer, truth: text.parse_yes_no(answer) == text.normalise(truth), pairs)
    lost = _column(lambda answer, truth: text.parse_yes_no(answer) is None, pairs)
    columns: dict[str, np.ndarray | str] = {}
    for name, function in _TEXT_METRICS.items():
        try:
            columns[name] = _column(function, pairs)
        except FedkimError as error:  # an extra that isn't installed: told beside the score, the others stand
            columns[name] = str(error)
    columns["empty_rate"] = _column(lambda answer, truth: text.is_empty(answer), pairs)

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
            "patients": len(set(compress(p.patients, closed))),
            "metrics": {
                "accuracy": mean(right, closed),
                "exact_match": mean(columns["exact_match"], closed),
                "unparsable_rate": mean(lost, closed),
            },
        },
        "open": {
            "n": int((~closed).sum()),
            "patients": len(set(compress(p.patients, ~closed))),
            "metrics": {name: mean(columns[name], ~closed) for name in ("exact_match", "token_f1")},
        },
    }


def _column(function: Callable[[str, str], float], pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """``[n]``: the function of each answer and its truth. Most answers are the same few words, so each pair is scored once."""
    known = {pair: float(function(*pair)) for pair in set(pairs)}
    return np.array([known[pair] for pair in pairs])
