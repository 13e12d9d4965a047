"""Batches: which samples a site looks at in one step, and how they become tensors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.errors import FedkimError
from fedkim.turns import endless, turns_by_share

MOST_REPEATS = 4
"""How much oftener than its natural share a rare answer is drawn in balanced batches."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples as tensors; a modality holds only the samples that have it."""

    size: int
    inputs: Mapping[str, Tensor]
    """By modality, ``[b, …]`` with b ≤ size."""
    rows: Mapping[str, Tensor]
    """By modality, the place of each of its b samples in the batch, ``int64 [b]``."""

    @classmethod
    def of(cls, samples: Sequence[Sample], modalities: Sequence[str]) -> "Batch":
        """The given modalities of some samples.

        Raises:
            FedkimError: inputs of one modality differ in shape.
        """
        inputs, rows = {}, {}
        for name in modalities:
            here = [row for row, sample in enumerate(samples) if name in sample.inputs]
            if not here:
                continue
            tensors = [samples[row].inputs[name] for row in here]
            shapes = sorted({tuple(tensor.shape) for tensor in tensors})
            if len(shapes) > 1:
                raise FedkimError(
                    f"inputs of {name!r}", found=f"shapes {shapes[0]} and {shapes[1]}", expected="one shape"
                )
            inputs[name], rows[name] = torch.stack(tensors), torch.tensor(here)
        return cls(size=len(samples), inputs=inputs, rows=rows)


def shared_batches(
    answers: Mapping[str, Mapping[int, str]], *, batch_size: int, balanced: bool, generator: torch.Generator
) -> Iterator[list[int]]:
    """Endless batches of sample numbers that serve several tasks of the same modalities at once.

    Tasks that ask different questions of the same inputs share one pass through the encoders. Batches are filled from
    queues, each shuffled anew whenever it is used up: one queue per distinct set of labelled samples, or, if
    ``balanced``, one per answer of each task. Queues take equal turns, except that none is used up more than
    :data:`MOST_REPEATS` times faster than all samples together: a site's only positive sample, drawn for half of every
    batch, would teach it that patient. A batch is so large that a task finds ``batch_size`` labelled samples in it on
    average: exactly ``batch_size`` where all tasks label the same samples, that many for each where none is shared.

    Args:
        answers: by task, the answer of each labelled sample.
        batch_size: samples of one task in one step.
        balanced: draw the answers of a task equally often.
        generator: of the shuffles.
    """
    union = {number for labelled in answers.values() for number in labelled}
    total = sum(len(labelled) for labelled in answers.values())
    size = math.ceil(batch_size * len(answers) * len(union) / total - 1e-9)
    distinct: dict[tuple[int, ...], None] = {}
    for labelled in answers.values():
        kinds = sorted(set(labelled.values())) if balanced else [None]
        for kind in kinds:
            distinct[tuple(number for number, answer in labelled.items() if kind in (None, answer))] = None
    queues = [endless(numbers, generator) for numbers in distinct]
    turns = turns_by_share([min(1 / len(distinct), MOST_REPEATS * len(numbers) / len(union)) for numbers in distinct])
    while True:
        yield [next(queues[next(turns)]) for _ in range(size)]
