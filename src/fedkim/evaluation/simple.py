"""The reference row *simple*: a logistic regression on global statistics of the input.

What it reaches needs no knowledge of anatomy or rhythm: differences of acquisition, of charting habits, of the average
level. A score that doesn't beat it shows nothing more.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.modalities.concepts import CONCEPTS
from fedkim.tasks import Task

QUANTILES = (1, 5, 25, 50, 75, 95, 99)


def simple(task: Task, train: Sequence[Sample], samples: Sequence[Sample]) -> np.ndarray | None:
    """Probabilities ``float64 [n, K]`` of a task's answers; None where ``train`` lacks one of them.

    Args:
        task: a closed one.
        train: labelled samples with every input of the task (the private split, pooled: a reference, no federation).
        samples: what to score.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    answers = task.answers or ()
    labels = [answers.index(sample.labels[task.name]) for sample in train]
    if set(labels) != set(range(len(answers))):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(np.stack([statistics(task, sample) for sample in train]), labels)
    if not samples:
        return np.zeros((0, len(answers)))
    return model.predict_proba(np.stack([statistics(task, sample) for sample in samples]))


def statistics(task: Task, sample: Sample) -> np.ndarray:
    """The numbers ``float64 [d]`` that are read off a sample's inputs."""
    parts = []
    for modality in task.modalities:
        if modality in sample.inputs:
            read = _levels if modality in CONCEPTS else _distribution
            parts.append(read(sample.inputs[modality]))
    return np.concatenate(parts)


def _levels(series: Tensor) -> np.ndarray:
    """Of hourly columns ``[T, 2F]``: each measurement's mean over the day, and how often it was taken."""
    return series.double().mean(0).numpy()


def _distribution(values: Tensor) -> np.ndarray:
    """Of a picture or a wave: quantiles, skewness, kurtosis, roughness along the last axis, and edge against middle."""
    flat = values.double().numpy()
    centred = flat - flat.mean()
    spread = centred.std() or 1.0
    quarter = flat.shape[-1] // 4
    return np.array(
        [
            *np.percentile(flat, QUANTILES),
            flat.mean(),
            spread,
            ((centred / spread) ** 3).mean(),
            ((centred / spread) ** 4).mean(),
            np.abs(np.diff(flat, axis=-1)).mean(),
            flat[..., quarter : flat.shape[-1] - quarter].mean() - flat.mean(),
        ]
    )
