"""Sorting a few long rows coordinate by coordinate: what the median and the trimmed mean are made of.

A sort along the sites is thousands of tiny sorts with strides between their members. A sorting network does the same
comparisons on whole rows: Batcher's odd-even merge (*Sorting networks and their applications*, 1968) sorts ten rows in 32
exchanges, each a minimum and a maximum of two rows that are in the cache. On a CPU that is ten times as fast as
``torch.sort`` or ``numpy.median`` along the first axis, and exact.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def exchanges(num_rows: int) -> tuple[tuple[int, int], ...]:
    """Pairs (i, j), i < j, of Batcher's network for ``num_rows`` rows: put the lesser in i, the greater in j, pair by pair."""
    return tuple(_exchanges(num_rows))


def sort_rows(rows_SC: list[Tensor], spare_C: Tensor) -> list[Tensor]:
    """The rows with their coordinates sorted over the rows: the first holds the smallest values. Overwrites what it is given.

    Args:
        rows_SC: S rows of equal length and type without NaN; their memory is used.
        spare_C: one more such row, for the exchanges.
    """
    rows = list(rows_SC)
    for low, high in exchanges(len(rows)):
        torch.minimum(rows[low], rows[high], out=spare_C)
        torch.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare_C = spare_C, rows[low]
    return rows


def _exchanges(num_rows: int) -> Iterator[tuple[int, int]]:
    merged = 1  # length of the runs that are sorted already
    while merged < num_rows:
        distance = merged
        while distance:
            for first in range(distance % merged, num_rows - distance, 2 * distance):
                for low in range(first, min(first + distance, num_rows - distance)):
                    if low // (2 * merged) == (low + distance) // (2 * merged):
                        yield low, low + distance
            distance //= 2
        merged *= 2
