"""The fused layer against the formula written out, and against LoRA."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import linear

from fedkim.errors import FedkimError
from fedkim.m3oe import M3OEConfig, M3OELinear
from fedkim.m3oe.routing import Active, Gate, RouteChannel
from tiny_models import EXPERTS, RANK, adapted, description, some_route, tiny, tokens

P, R, IN, OUT, BATCH, TOKENS = 4, 3, 10, 6, 5, 7


def make_layer(dtype: torch.dtype, **settings: object) -> tuple[M3OELinear, RouteChannel]:
    torch.manual_seed(0)
    channel = RouteChannel()
    config = M3OEConfig(**{"r": R, "num_experts": P, "lora_dropout": 0.0, **settings})
    layer = M3OELinear(nn.Linear(IN, OUT).to(dtype), "default", config, channel, "layers.0.q_proj")
    layer.base_layer.requires_grad_(False)
    with torch.no_grad():
        layer.m3oe_B["default"].normal_()
    if dtype == torch.float64:
        layer.double()
    return layer, channel


def fused(layer: M3OELinear, channel: RouteChannel, x: Tensor, weights: Tensor) -> Tensor:
    gate = Gate(weights, rank=R, scaling=layer.scaling["default"], dtype=x.dtype)
    with channel.using(Active({"default": gate})):
        return layer(x)


def expert_of(layer: M3OELinear, index: int) -> tuple[Tensor, Tensor]:
    """(A_p [r, in], B_p [out, r]) of one expert, cut from the concatenation."""
    rank = layer.r["default"]
    rows = slice(index * rank, (index + 1) * rank)
    return layer.m3oe_A["default"][rows], layer.m3oe_B["default"][:, rows]


def by_loop(layer: M3OELinear, x: Tensor, weights: Tensor) -> Tensor:
    """c = W h + Σ_p α_p · s · B_p A_p h, an expert at a time."""
    result = layer.base_layer(x)
    for index in range(P):
        down, up = (factor.to(x.dtype) for factor in expert_of(layer, index))
        result = result + weights[:, index, None, None].to(x.dtype) * layer.scaling["default"] * linear(
            linear(x, down), up
        )
    return result


def by_einsum(layer: M3OELinear, x: Tensor, weights: Tensor) -> Tensor:
    """The printed form: all experts' outputs [B, T, P, out] at once, then their weighted sum."""
    down = torch.stack([expert_of(layer, index)[0] for index in range(P)]).to(x.dtype)
    up = torch.stack([expert_of(layer, index)[1] for index in range(P)]).to(x.dtype)
    outputs = torch.einsum("btpr,por->btpo", torch.einsum("bti,pri->btpr", x, down), up)
    return layer.base_layer(x) + layer.scaling["default"] * torch.einsum("bp,btpo->bto", weights.to(x.dtype), outputs)


@pytest.mark.parametrize("reference", [by_loop, by_einsum])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)]
)
def test_fused_layer_equals_the_formula_with_every_gradient(reference, dtype, tolerance):
    layer, channel = make_layer(dtype)
    x = torch.randn(BATCH, TOKENS, IN).to(dtype).requires_grad_()
    weights = torch.rand(BATCH, P, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    weights = weights.softmax(-1).requires_grad_()
    wanted = [layer.m3oe_A["default"], layer.m3oe_B["default"], weights, x]
    direction = torch.randn(BATCH, TOKENS, OUT).to(dtype)
    ours = fused(layer, channel, x, weights)
    theirs = reference(layer, x, weights)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item())
    for mine, other in zip(
        torch.autograd.grad(ours, wanted, direction), torch.autograd.grad(theirs, wanted, direction), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance * other.abs().max().item())


def test_gradcheck_passes_in_double_precision():
    layer, channel = make_layer(torch.float64)
    x = torch.randn(2, 3, IN, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, P, dtype=torch.float64, requires_grad=True)
    down, up = layer.m3oe_A["default"], layer.m3oe_B["default"]
    assert torch.autograd.gradcheck(lambda x, weights, *_: fused(layer, channel, x, weights), (x, weights, down, up))


def test_order_of_experts_does_not_matter():
    layer, channel = make_layer(torch.float64)
    x, weights = torch.randn(2, 3, IN, dtype=torch.float64), torch.rand(2, P, dtype=torch.float64)
    before = fused(layer, channel, x, weights)
    order = torch.tensor([2, 0, 3, 1])
    rows = (order[:, None] * R + torch.arange(R)).flatten()
    with torch.no_grad():
        layer.m3oe_A["default"].copy_(layer.m3oe_A["default"][rows].clone())
        layer.m3oe_B["default"].copy_(layer.m3oe_B["default"][:, rows].clone())
    torch.testing.assert_close(fused(layer, channel, x, weights[:, order]), before, rtol=1e-12, atol=1e-12)


def lora_of(base, down_up, rank: int):
    """A plain PEFT LoRA with alpha = rank, filled by ``down_up(layer name) -> (A, B)``."""
    lora = get_peft_model(
        copy.deepcopy(base),
        LoraConfig(
            r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"
        ),
    )
    with torch.no_grad():
        for name, module in lora.base_model.model.named_modules():
            if hasattr(module, "lora_A"):
                down, up = down_up(name)
                module.lora_A["default"].weight.copy_(down)
                module.lora_B["default"].weight.copy_(up)
    return lora.eval()


def test_uniform_route_with_experts_scale_is_one_lora_of_rank_times_experts():
    base = tiny()
    model = adapted(base, target_modules=["q_proj", "down_proj"])
    layers = dict(model.base_model.layers())
    lora = lora_of(base, lambda name: (layers[name].m3oe_A["default"], layers[name].m3oe_B["default"]), EXPERTS * RANK)
    with model.using(torch.full((EXPERTS,), 1 / EXPERTS)):
        torch.testing.assert_close(model(tokens()).logits, lora(tokens()).logits, rtol=0, atol=1e-6)


def test_uniform_router_needs_no_route_and_no_parameters_and_is_that_lora_too():
    base = tiny()
    model = adapted(base, router="uniform", target_modules=["q_proj", "down_proj"])
    layers = dict(model.base_model.layers())
    lora = lora_of(base, lambda name: (layers[name].m3oe_A["default"], layers[name].m3oe_B["default"]), EXPERTS * RANK)
    assert not [name for name, _ in model.named_parameters() if "router" in name]
    torch.testing.assert_close(model(tokens()).logits, lora(tokens()).logits, rtol=0, atol=1e-6)


def test_a_single_expert_is_a_plain_lora_that_needs_no_route():
    base = tiny()
    model = adapted(base, num_experts=1, target_modules=["q_proj", "down_proj"])
    layers = dict(model.base_model.layers())
    lora = lora_of(base, lambda name: (layers[name].m3oe_A["default"], layers[name].m3oe_B["default"]), RANK)
    torch.testing.assert_close(model(tokens()).logits, lora(tokens()).logits, rtol=0, atol=1e-6)


def test_one_hot_route_is_that_expert_alone_as_a_lora():
    base = tiny()
    model = adapted(base, gate_scale="paper", target_modules=["q_proj", "down_proj"])
    layers = dict(model.base_model.layers())
    for expert in range(EXPERTS):
        lora = lora_of(base, lambda name, expert=expert: expert_of(layers[name], expert), RANK)
        with model.using(torch.eye(EXPERTS)[expert]):
            torch.testing.assert_close(model(tokens()).logits, lora(tokens()).logits, rtol=0, atol=1e-6)


def test_paper_scale_is_weaker_by_the_number_of_experts_and_alpha_counts():
    scale = {}
    for name, settings in {
        "experts": {},
        "paper": {"gate_scale": "paper"},
        "alpha": {"gate_scale": "paper", "lora_alpha": 4 * R},
    }.items():
        scale[name] = make_layer(torch.float32, **settings)[0].scaling["default"]
    assert scale == {"experts": P, "paper": 1.0, "alpha": 4.0}


def test_first_step_moves_only_b_because_b_is_zero():
    model = adapted(awake=False).train()
    weights = model.route_weights(torch.randn(4, 32), torch.randn(3, 32))
    with model.using(weights):
        model(tokens(), labels=tokens()).loss.backward()
    grads = {
        name: parameter.grad.abs().max() for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    assert all(value > 0 for name, value in grads.items() if "m3oe_B" in name)
    assert all(value == 0 for name, value in grads.items() if "m3oe_B" not in name)


@pytest.mark.parametrize("seeded", [False, True])
def test_dropout_keeps_the_expectation_of_the_layer(seeded):
    layer, channel = make_layer(torch.float32, lora_dropout=0.25)
    weights = torch.full((1, P), 1 / P)
    gate = Gate(weights, rank=R, scaling=layer.scaling["default"], dtype=torch.float32)
    x = torch.randn(1, 1, IN).expand(1, 20000, IN)
    layer.eval()
    expected = fused(layer, channel, x, weights)[0, 0]
    layer.train()
    with channel.using(Active({"default": gate}, seed=5 if seeded else None)):
        dropped = layer(x)[0]
    assert dropped.std(dim=0).min() > 0.01
    torch.testing.assert_close(
        dropped.mean(dim=0), expected, rtol=0, atol=5 * (dropped.std(dim=0) / 20000**0.5).max().item()
    )


def test_each_layer_has_dropout_masks_of_its_own():
    layers = [module for module in adapted(lora_dropout=0.5).modules() if isinstance(module, M3OELinear)]
    active = Active({}, seed=5)
    masks = {tuple((active.dropout(torch.ones(64), 0.5, layer.seed)[0] != 0).tolist()) for layer in layers}
    assert len(masks) == len(layers) > 4
    first = active.dropout(torch.ones(64), 0.5, layers[0].seed)[0]
    assert torch.equal(Active({}, seed=5).dropout(torch.ones(64), 0.5, layers[0].seed)[0], first)
    assert not torch.equal(Active({}, seed=6).dropout(torch.ones(64), 0.5, layers[0].seed)[0], first)


def test_a_bfloat16_base_keeps_float32_masters_and_computes_and_saves_in_bfloat16():
    base = tiny().to(torch.bfloat16)
    model = adapted(base)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    _, layer = next(model.base_model.layers())
    x = torch.randn(2, 50, 32, dtype=torch.bfloat16, requires_grad=True)
    with model.using(some_route()), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        assert layer(x).dtype == torch.bfloat16
    wide = [tensor for tensor in kept if tensor.dtype == torch.float32 and tensor.shape[:2] == x.shape[:2]]
    assert kept
    assert not wide  # a float32 copy of each input is what `x.to(A.dtype)` would have kept


def test_casts_kept_for_generation_follow_every_change_of_the_masters():
    model = adapted(tiny().to(torch.bfloat16))
    _, layer = next(model.base_model.layers())
    x = torch.randn(1, 3, 32, dtype=torch.bfloat16)
    with model.using(some_route()):

        def both() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                kept = layer(x)
                assert torch.equal(layer(x), kept)
            return kept, layer(x).detach()  # with gradients nothing is kept

        first, plain = both()
        assert torch.equal(first, plain)
        with torch.no_grad():
            layer(x)
            layer.m3oe_B["default"].mul_(2)  # as an optimiser or load_state_dict does
            assert not torch.equal(layer(x), first)
            layer.m3oe_A["default"].data = layer.m3oe_A["default"].data * 3
        second, plain = both()
        assert torch.equal(second, plain)
        assert not torch.equal(second, first)
    assert not any("_casts" in name for name in model.state_dict())


def test_autocast_computes_in_bfloat16_and_agrees_with_float32():
    model = adapted()
    with model.using(some_route()):
        plain = model(tokens()).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = model(tokens()).logits
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), plain, rtol=0.1, atol=0.1)


def test_gradients_under_autocast_arrive_in_the_float32_masters():
    model = adapted().train()
    gradients = {}
    for name, enabled in (("plain", False), ("autocast", True)):
        model.zero_grad()
        weights = model.route_weights(description(4, 1), description(3, 2))
        with model.using(weights), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            model(tokens(), labels=tokens()).loss.backward()
        gradients[name] = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and "absent" not in n}
    assert {grad.dtype for grad in gradients["autocast"].values()} == {torch.float32}
    for name, plain in gradients["plain"].items():
        similarity = torch.nn.functional.cosine_similarity(
            plain.flatten(), gradients["autocast"][name].flatten(), dim=0
        )
        assert similarity > 0.97, name


def test_published_initialisation_is_smaller_by_the_root_of_the_rank():
    ours = make_layer(torch.float32)[0].m3oe_A["default"].std()
    published = make_layer(torch.float32, init="published")[0].m3oe_A["default"].std()
    assert float(ours / published) == pytest.approx(R**0.5, rel=1e-4)


def test_an_adapter_that_is_not_finite_is_not_merged():
    model = adapted()
    _, layer = next(model.base_model.layers())
    with torch.no_grad():
        layer.m3oe_B["default"][0, 0] = float("nan")
    with pytest.raises(FedkimError, match="not finite"):
        model.merge_route(some_route())
