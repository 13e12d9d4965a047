"""Queues without end, and which of them is next in fixed shares: a site's batches, and the server's."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def turns_by_share(shares: Sequence[float], amounts: Iterable[int] = itertools.repeat(1)) -> Iterator[int]:
    """Queue numbers, so that what each queue serves is in proportion to ``shares``: always the one that is owed most.

    Args:
        shares: of each queue.
        amounts: how much is served at each turn; one each, without end, if not given.
    """
    owed = [0.0] * len(shares)
    for amount in amounts:
        owed = [debt + amount * share / sum(shares) for debt, share in zip(owed, shares)]
        turn = max(range(len(owed)), key=lambda queue: owed[queue])
        owed[turn] -= amount
        yield turn


def endless(items: Sequence[Item], generator: torch.Generator) -> Iterator[Item]:
    """The items without end, shuffled anew at each pass."""
    while True:
        for place in torch.randperm(len(items), generator=generator).tolist():
            yield items[place]
