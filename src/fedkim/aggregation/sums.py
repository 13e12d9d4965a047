"""Weighted sums of tensors in float64, a piece at a time: what every rule that averages is made of.

A piece stays in a processor's cache, so that a sum over S sites reads each value once from memory and makes no copy of a whole
tensor: beside the result it needs O(piece), whatever the size of the model and the number of sites. Each coordinate is summed
by itself, in the order given, so the size of a piece changes the speed and no bit.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PIECE = 1 << 18
"""Coordinates looked at together, 2 MiB in float64: smaller pieces lose more to calls than they gain from the cache."""


def pieces(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``size`` that cover ``range(length)``; the last may be shorter."""
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float], *, origin: Tensor | None = None) -> Tensor:
    """Σ_n w_n x_n, or θ + Σ_n w_n (x_n − θ) about an ``origin`` θ; summed in float64 and in the order given.

    Args:
        tensors: at least one; equal shapes and types. They may be mapped from files.
        weights: one for each tensor.
        origin: what the differences are taken from; None: zero.

    Returns:
        A tensor of the same shape and type; whole numbers are rounded.
    """
    like = tensors[0]
    result = torch.empty_like(like, memory_format=torch.contiguous_format)
    sources = [tensor.reshape(-1).split(PIECE) for tensor in (tensors if origin is None else (origin, *tensors))]
    memory = torch.empty(1 if origin is None else 3, min(PIECE, like.numel()), dtype=torch.float64)
    for target, *rows in zip(result.view(-1).split(PIECE), *sources, strict=True):
        total, *more = memory[:, : len(target)]
        if origin is None:
            total.zero_()
            for row, weight in zip(rows, weights, strict=True):
                total.add_(row, alpha=weight)  # widened on the way: no page of memory is touched for a wide copy
        else:
            term, start = more
            start.copy_(rows.pop(0))
            total.copy_(start)
            for row, weight in zip(rows, weights, strict=True):
                term.copy_(row)
                total.add_(term.sub_(start), alpha=weight)
        target.copy_(total if like.is_floating_point() else total.round_())
    return result
