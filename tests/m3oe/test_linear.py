"""bfloat16 products in float32: what they round to, their gradients, and who gets them."""

import pytest
import torch
from torch import nn

import fedkim.m3oe.linear as module
from fedkim.injection import load_llm
from fedkim.m3oe.linear import RoundedLinear, linear, use_rounded_linear


@pytest.fixture(autouse=True)
def processor_without_bfloat16(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", True)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def assert_rounded(found, exact):
    """Within half a step of bfloat16 (eight bits) of the exact result, and what float32 sums may add."""
    assert found.dtype == torch.bfloat16
    assert torch.all((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-4)


def test_the_product_and_both_gradients_are_exact_but_for_one_rounding():
    x, weight, bias = drawn(2, 5, 48), drawn(32, 48, seed=1), drawn(32, seed=3)
    gradient = drawn(2, 5, 32, seed=2)
    for one in (x, weight, bias):
        one.requires_grad_()
    result = linear(x, weight, bias)
    result.backward(gradient)
    assert_rounded(result, x.double() @ weight.double().T + bias.double())
    assert_rounded(x.grad, gradient.double() @ weight.double())
    assert_rounded(weight.grad, gradient.double().flatten(0, 1).T @ x.double().flatten(0, 1))
    assert_rounded(bias.grad, gradient.double().flatten(0, 1).sum(0))


def test_a_large_weight_goes_by_rows_and_gives_the_same(monkeypatch):
    def both():
        x, weight = drawn(3, 16).requires_grad_(), drawn(50, 16, seed=1).requires_grad_()
        result = linear(x, weight)
        result.sum().backward()
        return result, x.grad, weight.grad

    whole = both()
    monkeypatch.setattr(module, "ROWS", 7)
    for a, b in zip(whole, both()):
        assert_rounded(b, a.double())


def test_one_vector_and_a_users_autocast_are_fine():
    x, weight = drawn(16).requires_grad_(), drawn(4, 16, seed=1).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = linear(x, weight)
        result.sum().backward()
    assert_rounded(result, x.double() @ weight.double().T)
    assert x.grad.shape == (16,)
    assert weight.grad.shape == (4, 16)


def test_it_is_torchs_own_in_every_other_dtype(monkeypatch):
    monkeypatch.setattr(module._Rounded, "apply", None)  # would raise if it were called
    x, weight = drawn(3, 8).float(), drawn(4, 8, seed=1).float()
    assert torch.equal(linear(x, weight), nn.functional.linear(x, weight))
    monkeypatch.setattr(module, "_ROUNDS", False)
    assert linear(drawn(3, 8), drawn(4, 8)).dtype == torch.bfloat16


def test_a_frozen_weight_gets_no_gradient_and_no_float32_copy_is_kept():
    x, weight = drawn(3, 8).requires_grad_(), drawn(4, 8, seed=1)
    result = linear(x, weight)
    assert {saved.dtype for saved in result.grad_fn.saved_tensors} == {torch.bfloat16}
    result.sum().backward()
    assert weight.grad is None
    assert x.grad is not None


def test_plain_layers_are_changed_in_place_and_keep_their_weights():
    class Quantised(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), Quantised(4, 4)).to(torch.bfloat16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    use_rounded_linear(model)
    assert [type(part) for part in model] == [RoundedLinear, nn.LayerNorm, Quantised]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x, layer = drawn(5, 8), model[0]
    assert_rounded(layer(x), x.double() @ layer.weight.double().T + layer.bias.double())


@pytest.mark.parametrize(("multiplies", "kind"), [(False, RoundedLinear), (True, nn.Linear)])
def test_a_bfloat16_model_gets_them_where_the_processor_has_no_bfloat16(monkeypatch, multiplies, kind):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    model = load_llm("tiny", device="cpu", dtype="bfloat16").model
    layers = {type(part) for part in model.modules() if isinstance(part, nn.Linear)}
    assert layers == {kind}
    full = load_llm("tiny", device="cpu", dtype="float32").model
    assert {type(part) for part in full.modules() if isinstance(part, nn.Linear)} == {nn.Linear}
    inputs = torch.tensor([[3, 5, 7, 11]])
    with torch.no_grad():
        found, exact = (one(inputs).logits.float() for one in (model, full))
    assert torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.999
