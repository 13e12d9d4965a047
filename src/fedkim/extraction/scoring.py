"""Scores of the small models: what the federated encoders and decoders answer by themselves, without an LLM."""

import numpy as np
import torch

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.extraction.batches import Batch
from fedkim.extraction.extractor import Extractor
from fedkim.modalities import modalities_of
from fedkim.tasks import Task


def predict_proba(extractor: Extractor, dataset: Dataset, task: Task | str, batch_size: int = 64) -> np.ndarray:
    """Probabilities ``float64 [n, K]`` of a task's answers, in the order of the data set; labels aren't read.

    Raises:
        FedkimError: no decoder for the task, or a sample with none of its modalities.
    """
    name = task if isinstance(task, str) else task.name
    inputs = modalities_of([extractor.tasks[name]]) if name in extractor.tasks else ()
    rows = []
    was_training = extractor.training
    extractor.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(dataset), batch_size):
                samples = dataset.samples[start : start + batch_size]
                if inputs and any(not set(inputs) & set(sample.inputs) for sample in samples):
                    raise FedkimError(
                        f"task {name!r}", found="a sample without input", expected=f"one of: {', '.join(inputs)}"
                    )
                logits = extractor(Batch.of(samples, inputs), name)
                rows.append(torch.softmax(logits.double(), dim=1).numpy())
    finally:
        extractor.train(was_training)
    answers = len(extractor.tasks[name].answers or ()) if name in extractor.tasks else 0
    return np.concatenate(rows) if rows else np.zeros((0, answers))
