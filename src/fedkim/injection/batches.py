"""Which public samples each server step trains on: a pure function of seed and round."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.randomness import generator_for
from fedkim.tasks import Task


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Samples of one task: one route, one prompt, no padding."""

    task: str
    samples: tuple[Sample, ...]
    number: int
    """Counts micro-batches through the round, to seed what is random in it."""


def usable(dataset: Dataset, task: Task, *, labelled: bool = True) -> list[Sample]:
    """The samples that can serve a task: every modality it needs, and its answer."""
    return [
        sample
        for sample in dataset
        if (not labelled or task.name in sample.labels)
        and all(m == "text" or m in sample.inputs for m in task.modalities)
    ]


def steps_in_pass(dataset: Dataset, batch_size: int) -> int:
    """Server steps in one pass over the public samples."""
    return max(1, -(-len(dataset) // batch_size))


def plan_round(
    pools: Mapping[str, Sequence[Sample]],
    *,
    round: int,
    steps: int,
    batch_size: int,
    micro_batch: int,
    balanced: bool,
    seed: int,
) -> list[list[MicroBatch]]:
    """Per step, the micro-batches of a round: tasks take turns with equal weight, each micro-batch holds one task.

    Turns go on over the steps, so that with more tasks than micro-batches in a step every task still has its share.

    Args:
        pools: usable samples by task.
        round: drawn afresh for each.
        steps: optimiser steps.
        batch_size: samples in a step.
        micro_batch: samples in one forward pass, at most.
        balanced: answers equally frequent within a task.
        seed: the run's.
    """
    tasks = sorted(pools)
    streams = {task: _stream(pools[task], task, balanced=balanced, seed=seed, round=round) for task in tasks}
    size = min(micro_batch, batch_size)
    per_step = -(-batch_size // size)
    order = torch.randperm(len(tasks), generator=generator_for(seed, "server", round, "task order")).tolist()
    plan, number = [], 0
    for _ in range(steps):
        step = []
        for index in range(per_step):
            task = tasks[order[number % len(tasks)]]
            wanted = min(size, batch_size - index * size)
            step.append(MicroBatch(task=task, samples=tuple(next(streams[task]) for _ in range(wanted)), number=number))
            number += 1
        plan.append(step)
    return plan


def _stream(samples: Sequence[Sample], task: str, *, balanced: bool, seed: int, round: int) -> Iterator[Sample]:
    """Samples without end, reshuffled at each pass; balanced: the answers' own streams take turns."""
    if not balanced:
        yield from _endless(samples, generator_for(seed, "server", round, task))
        return
    by_answer: dict[str, list[Sample]] = {}
    for sample in samples:
        by_answer.setdefault(sample.labels[task], []).append(sample)
    streams = [
        _endless(group, generator_for(seed, "server", round, task, answer))
        for answer, group in sorted(by_answer.items())
    ]
    while True:
        for stream in streams:
            yield next(stream)


def _endless(samples: Sequence[Sample], generator: torch.Generator) -> Iterator[Sample]:
    while True:
        for index in torch.randperm(len(samples), generator=generator).tolist():
            yield samples[index]
