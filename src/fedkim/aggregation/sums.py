"""Weighted sums of tensors in float64, a piece at a time: what every rule that averages is made of.

A piece fits into a processor's cache, so that a sum over S sites reads each value once and needs no copy of a whole tensor:
memory is O(piece), whatever the size of the model and the number of sites. Each coordinate is summed by itself, in the order
given, so the size of a piece changes the speed and no bit.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PIECE = 1 << 16
"""Coordinates looked at together: 512 KiB of float64."""


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
    flat, rows = result.view(-1), [tensor.reshape(-1) for tensor in tensors]
    start = origin.reshape(-1) if origin is not None else None
    total = torch.empty(min(PIECE, flat.numel()), dtype=torch.float64)
    term, base = torch.empty_like(total), torch.empty_like(total)
    for piece in pieces(flat.numel(), PIECE):
        width = piece.stop - piece.start
        sum_, term_, base_ = total[:width], term[:width], base[:width]
        if start is not None:
            base_.copy_(start[piece])
            sum_.copy_(base_)
        else:
            sum_.zero_()
        for row, weight in zip(rows, weights, strict=True):
            term_.copy_(row[piece])
            if start is not None:
                term_.sub_(base_)
            sum_.add_(term_, alpha=weight)
        flat[piece] = sum_ if like.is_floating_point() else sum_.round_()
    return result
