"""One method's scores on free text: by word, by phrase, and on the questions that ask for a yes or a no."""

from collections.abc import Callable, Mapping
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
