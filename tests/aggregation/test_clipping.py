from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounds_of_updates import aggregated

from fedkim.aggregation.clipping import capped_shares, clipped_mean, distance
from fedkim.errors import FedkimError


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_shares_sum_to_one_keep_their_order_and_none_is_above_the_cap(counts, most):
    shares = capped_shares(counts, most)
    assert sum(shares) == pytest.approx(1.0)
    assert max(shares) <= max(most, 1 / len(counts)) + 1e-12
    for (one, other), (first, second) in zip(pairwise(counts), pairwise(shares)):
        assert one == other or (one < other) == (first < second) or first == pytest.approx(second)


def test_what_a_capped_site_loses_goes_to_the_others_in_proportion():
    assert capped_shares([80, 10, 10], 0.5) == pytest.approx([0.5, 0.25, 0.25])
    assert capped_shares([80, 15, 5], 0.5) == pytest.approx([0.5, 0.375, 0.125])
    assert capped_shares([1000, 100, 1, 1], 0.4) == pytest.approx([0.4, 0.4, 0.1, 0.1])  # the second is over only then
    assert capped_shares([5, 3, 2], 1.0) == pytest.approx([0.5, 0.3, 0.2])
    assert capped_shares([90, 10], 0.3) == [0.5, 0.5]


def test_within_the_bounds_it_is_the_weighted_mean():
    rows = 1 + 0.1 * torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    expected = (rows * torch.tensor([0.1, 0.2, 0.2, 0.2, 0.3])[:, None]).sum(0)
    torch.testing.assert_close(aggregated(clipped_mean(), rows, [10, 20, 20, 20, 30]), expected)


def test_a_long_step_is_cut_to_so_many_times_the_median():
    before = torch.full((4,), 10.0)
    rows = before + torch.tensor([1.0, 1.0, 1.0, 100.0])[:, None]
    result = aggregated(clipped_mean(clip_factor=3.0), rows, before=before)
    torch.testing.assert_close(result, before + (1 + 1 + 1 + 3) / 4)


def test_measuring_changes_nothing():
    before, after = {"a.w": torch.zeros(3, dtype=torch.float64)}, {"a.w": torch.full((3,), 2.0, dtype=torch.float64)}
    assert distance(before, after) == distance(before, after) == pytest.approx(12**0.5)


def test_a_distance_is_that_of_all_pieces():
    generator = torch.Generator().manual_seed(0)
    before, after = ({"a.w": torch.randn(600_000, generator=generator)} for _ in range(2))
    moved = after["a.w"].double() - before["a.w"].double()
    assert distance(before, after) == pytest.approx(moved.norm().item())


@pytest.mark.parametrize(("key", "value"), [("clip_factor", 0.9), ("site_share", 0.0), ("site_share", 1.1)])
def test_bounds_that_make_no_sense_are_refused(key, value):
    with pytest.raises(FedkimError, match=key):
        clipped_mean(**{key: value})
