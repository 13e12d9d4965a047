"""Which public samples each server step trains on: a pure function of seed and round."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkim.data.sample import Dataset, Sample
from fedkim.randomness import generator_for
from fedkim.tasks import Task, has_inputs
from fedkim.turns import endless, turns_by_share


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Questions of one forward pass: of several tasks, but all about the same modalities.

    Side by side, questions whose answers disagree make the language model read them: what is common to their gradients
    (say Yes, look at the brightest direction) cancels within the step. One at a time, they undo each other from step to step.
    """

    tasks: tuple[str, ...]
    """Of each row."""
    samples: tuple[Sample, ...]
    """Of each row."""
    number: int
    """Counts micro-batches through the round, to seed what is random in it."""


def with_every_input(dataset: Dataset, task: Task, *, labelled: bool = True) -> list[Sample]:
    """The samples that can serve a task: every modality it needs, and its answer."""
    return [
        sample for sample in dataset if (not labelled or task.name in sample.labels) and has_inputs(task, sample.inputs)
    ]


def stack_inputs(samples: Sequence[Sample], modalities: Sequence[str]) -> dict[str, Tensor]:
    """``[B, …]`` by modality."""
    return {
        modality: torch.stack([sample.inputs[modality] for sample in samples])
        for modality in modalities
        if all(modality in sample.inputs for sample in samples)
    }


def steps_in_pass(pools: Mapping[str, Sequence[Sample]], batch_size: int) -> int:
    """Server steps in one pass over the public samples that serve a seen task, each counted once however many it serves."""
    distinct = {sample.id for pool in pools.values() for sample in pool}
    return max(1, -(-len(distinct) // batch_size))


def plan_round(
    pools: Mapping[str, Sequence[Sample]],
    tasks: Mapping[str, Task],
    *,
    round: int,
    steps: int,
    batch_size: int,
    micro_batch: int,
    balanced: bool,
    seed: int,
) -> list[list[MicroBatch]]:
    """Per step, the micro-batches of a round; every task has the same number of rows, give or take a micro-batch.

    Tasks that read the same modalities share micro-batches and take turns within them; the sets of modalities take turns
    in proportion to their tasks, over the steps' borders.

    Args:
        pools: usable samples by task.
        tasks: their records.
        round: drawn afresh for each.
        steps: optimiser steps.
        batch_size: rows in a step.
        micro_batch: rows in one forward pass, at most.
        balanced: answers equally frequent within a task.
        seed: the run's.
    """
    names = sorted(pools)
    streams = {name: _stream(pools[name], name, balanced=balanced, seed=seed, round=round) for name in names}
    groups: dict[tuple[str, ...], list[str]] = {}
    for index in torch.randperm(len(names), generator=generator_for(seed, "server", round, "task order")).tolist():
        groups.setdefault(tasks[names[index]].modalities, []).append(names[index])
    members_in_turn = [itertools.cycle(members) for members in groups.values()]
    size = min(micro_batch, batch_size)
    sizes = [min(size, batch_size - start) for start in range(0, batch_size, size)]  # the last one may be smaller
    turns = turns_by_share([len(members) / len(names) for members in groups.values()], itertools.cycle(sizes))
    numbers = itertools.count()

    def micro(rows: int) -> MicroBatch:
        group = members_in_turn[next(turns)]
        chosen = sorted(next(group) for _ in range(rows))
        return MicroBatch(
            tasks=tuple(chosen), samples=tuple(next(streams[name]) for name in chosen), number=next(numbers)
        )

    return [[micro(rows) for rows in sizes] for _ in range(steps)]


def _stream(samples: Sequence[Sample], task: str, *, balanced: bool, seed: int, round: int) -> Iterator[Sample]:
    """Samples without end, reshuffled at each pass; balanced: the answers' own streams take turns."""
    if not balanced:
        yield from endless(samples, generator_for(seed, "server", round, task))
        return
    by_answer: dict[str, list[Sample]] = {}
    for sample in samples:
        by_answer.setdefault(sample.labels[task], []).append(sample)
    streams = [
        endless(group, generator_for(seed, "server", round, task, answer))
        for answer, group in sorted(by_answer.items())
    ]
    while True:
        for stream in streams:
            yield next(stream)
