"""Pools: the public samples that each task can be taught on, and their features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.injection.batches import stack_inputs
from fedkim.injection.injector import Injector

AT_ONCE = 256
"""Public inputs that the encoders see in one pass."""

Pools = Mapping[str, Sequence[Sample]]
"""Public samples with every input, by task."""


def encode_pool(injector: Injector, task: str, pool: Sequence[Sample]) -> dict[str, Tensor]:
    """Of all public inputs of a task, ``[n, k, W]`` by modality; encoded a few at a time."""
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for start in range(0, len(pool), AT_ONCE):
            inputs = stack_inputs(pool[start : start + AT_ONCE], injector.tasks[task].modalities)
            for modality, tokens in injector.encode(task, inputs).items():
                parts.setdefault(modality, []).append(tokens)
    return {modality: torch.cat(tokens) for modality, tokens in parts.items()}
