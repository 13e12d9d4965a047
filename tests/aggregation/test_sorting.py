import itertools

import pytest
import torch

from fedkim.aggregation.sorting import exchanges, sort_rows


@pytest.mark.parametrize("number", range(1, 13))
def test_the_network_sorts_every_row_of_zeros_and_ones_and_so_everything(number):
    """The zero-one principle (Knuth, volume 3): a network that sorts all such rows sorts any."""
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=number))).T.contiguous()
    expected = rows.sort(0).values
    assert torch.equal(torch.stack(sort_rows(list(rows), torch.empty(rows.shape[1]))), expected)


@pytest.mark.parametrize("number", [13, 31, 50, 64, 100])
def test_more_rows_are_sorted_too(number):
    rows = torch.randn(number, 500, generator=torch.Generator().manual_seed(number))
    expected = rows.sort(0).values
    assert torch.equal(torch.stack(sort_rows(list(rows), torch.empty(500))), expected)


def test_ten_rows_take_as_many_exchanges_as_the_document_says():
    assert len(exchanges(10)) == 32
