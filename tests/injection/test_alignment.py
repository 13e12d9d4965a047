import pytest
import torch

from fedkim.injection.alignment import Alignment

WIDTH, HIDDEN, NORM = 8, 64, 1.5


def alignment(seed: int = 0, modality: str = "image") -> Alignment:
    return Alignment(WIDTH, HIDDEN, NORM, seed=seed, modality=modality)


def features(number: int = 5) -> torch.Tensor:
    return torch.randn(number, 3, WIDTH, generator=torch.Generator().manual_seed(1))


def test_tokens_stand_between_their_two_tags():
    g = alignment()
    out = g(features())
    assert out.shape == (5, 3 + 2, HIDDEN)
    assert torch.equal(out[:, 0], g.tags[0].expand(5, -1))
    assert torch.equal(out[:, -1], g.tags[1].expand(5, -1))


def test_a_token_of_a_modality_is_as_loud_as_a_word():
    assert alignment()(features())[:, 1:-1].norm(dim=-1).mean().item() == pytest.approx(NORM, rel=1e-3)


def test_each_modality_begins_with_weights_of_its_own_that_the_seed_decides():
    assert torch.equal(alignment().projection.weight, alignment().projection.weight)
    assert not torch.equal(alignment().projection.weight, alignment(modality="signal").projection.weight)
    assert not torch.equal(alignment().projection.weight, alignment(seed=1).projection.weight)


def test_before_the_layer_norm_the_alignment_is_linear_in_the_features():
    g = alignment()
    x = features()
    expected = torch.nn.functional.layer_norm(x @ g.projection.weight.T + g.projection.bias, (HIDDEN,)) * g.scale
    assert torch.allclose(g(x)[:, 1:-1], expected, atol=1e-6)


def test_without_gain_conditioning_only_centres_and_scales():
    g, x = alignment(), features(40) * 3 + 2
    g.condition(x, torch.randn(2, WIDTH), gain=0.0)
    assert torch.allclose(g.emphasis, torch.eye(WIDTH), atol=1e-6)
    seen = (x - g.center) / g.spread
    assert torch.allclose(seen.flatten(0, 1).mean(0), torch.zeros(WIDTH), atol=1e-5)
    assert torch.allclose(seen.mean(1).std(0), torch.ones(WIDTH), atol=1e-4)


def test_conditioning_makes_the_decoders_directions_louder_and_leaves_the_rest():
    g, x, gain = alignment(), features(40), 3.0
    directions = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(2))
    g.condition(x, directions, gain)
    inside = directions * g.spread  # in the units after scaling
    assert torch.allclose(inside @ g.emphasis, (1 + gain) * inside, atol=1e-4)
    outside = torch.randn(WIDTH)
    basis = torch.linalg.qr(inside.T).Q
    outside -= basis @ (basis.T @ outside)
    assert torch.allclose(outside @ g.emphasis, outside, atol=1e-4)


def test_a_channel_that_never_varies_stays_finite():
    g, x = alignment(), features(10)
    x[..., 0] = 4.0
    g.condition(x, torch.ones(1, WIDTH), gain=1.0)
    assert bool(g(x).isfinite().all())
