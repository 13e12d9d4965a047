import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fedkim.aggregation.sums as sums_module
from fedkim.aggregation.sums import pieces, weighted_sum


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 3000), st.integers(1, 7), st.sampled_from([64, 256, 1024]))
def test_the_size_of_a_piece_changes_no_bit(seed, length, sites, piece):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(length, generator=generator) for _ in range(sites)]
    weights = torch.rand(sites, generator=generator).tolist()
    whole = torch.zeros(length, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights):
        whole.add_(tensor.double(), alpha=weight)
    assert torch.equal(weighted_sum(tensors, weights), whole.float())
    usual = sums_module.PIECE
    try:
        sums_module.PIECE = piece
        assert torch.equal(weighted_sum(tensors, weights), whole.float())
    finally:
        sums_module.PIECE = usual


def test_about_an_origin_weights_that_do_not_sum_to_one_shrink_the_step_not_the_weights():
    origin, ahead = torch.full((5,), 100.0), torch.full((5,), 104.0)
    assert weighted_sum([ahead, ahead], [0.25, 0.25], origin=origin).tolist() == [102.0] * 5


def test_about_an_origin_every_piece_starts_from_its_own_part_of_it():
    generator = torch.Generator().manual_seed(0)
    origin, *tensors = (torch.randn(2, 300_000, generator=generator) for _ in range(3))
    expected = origin.double() + sum(w * (x.double() - origin.double()) for w, x in zip((0.2, 0.5), tensors))
    torch.testing.assert_close(weighted_sum(tensors, [0.2, 0.5], origin=origin), expected.float())


def test_nothing_that_is_given_is_changed():
    tensors = [torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]
    weighted_sum(tensors, [0.5, 0.5], origin=tensors[0])
    assert [tensor.sum().item() for tensor in tensors] == [4.0, 0.0]


def test_shapes_are_kept_down_to_none():
    assert weighted_sum([torch.tensor(2.0), torch.tensor(4.0)], [0.5, 0.5]).shape == ()
    assert weighted_sum([torch.ones(2, 0, 3)], [1.0]).shape == (2, 0, 3)
    turned = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(weighted_sum([turned], [1.0]), turned)


def test_pieces_cover_the_length_once():
    assert list(pieces(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(pieces(0, 2)) == []
