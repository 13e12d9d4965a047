"""Does it forget? What the language model could do before injection, asked again: PubMedQA, and reading medical prose.

The injected model answers along the route of a task whose only modality is text. *Before* is the frozen base, which is what
the same model is without its experts. Two figures: accuracy on PubMedQA's 500 official test questions (the likeliest of
yes, no and maybe after abstract and question), and perplexity on the abstracts of the other 500.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.data.sources import pubmedqa
from fedkim.evaluation.answers import score
from fedkim.evaluation.metrics import decide
from fedkim.evaluation.statistics import Metric, average, score_json
from fedkim.evaluation.statistics import difference as paired_difference
from fedkim.evaluation.statistics import score as with_interval
from fedkim.injection import Injector
from fedkim.parallel import ordered_map
from fedkim.progress import Progress, Silent
from fedkim.tasks import Task

PUBMEDQA = Task(
    name=pubmedqa.TASK,
    question="",
    description=(
        "The biomedical question answering task involves reading the abstract of a research article to determine whether "
        "it answers the question with yes, no or maybe."
    ),
    modalities=("text",),
    answers=pubmedqa.ANSWERS,
)

LONGEST = 512
"""Tokens of an abstract that are read for the perplexity."""


def forgetting(
    injector: Injector,
    articles: Dataset,
    *,
    questions: int = 0,
    texts: int = 0,
    draws: int = 1000,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Both figures for the base and the injected model, with paired differences by article, JSON-ready.

    ::

        {"pubmedqa": {"n": 500, "majority": 0.552, "base": {"value", "low", "high"}, "injected": …, "difference": …},
         "perplexity": {"n": 500, "tokens": 150000, "base": …, "injected": …, "ratio": …}}

    Args:
        injector: the injected model.
        articles: PubMedQA as its loader gives it.
        questions: at most so many test questions, the first ones by number; 0: all.
        texts: at most so many abstracts; 0: all.
        draws: bootstrap draws over articles.
        seed: equal seeds give equal intervals.
        workers: articles read side by side.
        progress: told of each.
    """
    progress = progress or Silent()
    injector.know(PUBMEDQA)
    test = list(articles.split("test"))[: questions or None]
    others = [sample for sample in articles if sample.split != "test"][: texts or None]
    right, losses = {}, {}
    lengths = np.array([len(_tokens(injector, sample)) for sample in others], dtype=np.float64)
    with progress.stage("forgetting", 4) as stage:
        for name in ("base", "injected"):
            right[name] = _answers(injector, test, name == "base", workers)
            stage.advance()
            losses[name] = _losses(injector, others, name == "base", workers)
            stage.advance()
    found: dict[str, Any] = {}
    if test:
        who = [sample.patient for sample in test]
        truth = [sample.labels[PUBMEDQA.name] for sample in test]
        metrics = {name: average(values) for name, values in right.items()}
        found["pubmedqa"] = {
            "n": len(test),
            "majority": max(truth.count(answer) for answer in pubmedqa.ANSWERS) / len(truth),
            **{
                name: score_json(with_interval(metric, who, draws=draws, seed=seed)) for name, metric in metrics.items()
            },
            "difference": score_json(
                paired_difference(metrics["injected"], metrics["base"], who, draws=draws, seed=seed)
            ),
        }
    if others:
        who = [sample.patient for sample in others]
        reading = {name: _perplexity(values, lengths) for name, values in losses.items()}
        ratio: Metric = lambda weights: reading["injected"](weights) / reading["base"](weights)  # noqa: E731
        found["perplexity"] = {
            "n": len(others),
            "tokens": int(lengths.sum()),
            **{
                name: score_json(with_interval(metric, who, draws=draws, seed=seed)) for name, metric in reading.items()
            },
            "ratio": score_json(with_interval(ratio, who, draws=draws, seed=seed)),
        }
    return found


def _answers(injector: Injector, samples: Sequence[Sample], base: bool, workers: int) -> np.ndarray:
    """Whether each question's likeliest answer is right, float ``[n]``."""
    with injector.as_base() if base else nullcontext():
        # one by one, as the base is asked: padding would round one side of the comparison alone
        table = score(injector, PUBMEDQA.name, samples, batch_size=1, workers=workers)
    chosen = decide(table, 0.5) if len(table) else ()
    truth = [sample.labels[PUBMEDQA.name] for sample in samples]
    return np.array([pubmedqa.ANSWERS[int(answer)] == label for answer, label in zip(chosen, truth)], dtype=float)


def _losses(injector: Injector, samples: Sequence[Sample], base: bool, workers: int) -> np.ndarray:
    """The summed negative log-likelihood of each abstract's tokens, ``[n]``."""

    def one(sample: Sample) -> float:
        ids = _tokens(injector, sample)
        with torch.no_grad():
            said = injector.logits([], [ids], keep=len(ids), drop=1)[0].log_softmax(-1)
            return -float(said.gather(1, torch.tensor(ids, device=said.device)[:, None]).double().sum())

    with injector.as_base() if base else nullcontext(), injector.answering(PUBMEDQA.name):
        return np.array(list(ordered_map(one, samples, workers)))


def _tokens(injector: Injector, sample: Sample) -> list[int]:
    """The abstract without the question, which stands on its last line."""
    abstract, _, _ = sample.questions[PUBMEDQA.name].rpartition("\n")
    return injector.llm.encode(abstract)[:LONGEST]


def _perplexity(losses: np.ndarray, lengths: np.ndarray) -> Metric:
    """``exp(Σ losses / Σ tokens)`` over the drawn articles."""

    def perplexity(weights: np.ndarray) -> np.ndarray:
        return np.exp((weights @ losses) / np.maximum(weights @ lengths, 1))

    return perplexity
