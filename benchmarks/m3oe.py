"""M3OE against a frozen model, LoRA, the usual ways to write a mixture, and PEFT's X-LoRA.

One layer (forward and backward, and the bytes autograd keeps), then a random Llama: a training step and generation.
All adapters see the same tokens, batch, dropout and dtype; α takes a gradient.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, XLoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import peers
from benchmarks.measure import Report, Settings, exact, kept_bytes, ratio, take_turns
from fedkim.m3oe.targets import TARGETS

LLAMA = list(TARGETS["llama"])
BLOCKS = 2
MANY = 64
"""Experts of the larger mixture."""


def run(settings: Settings, report: Report) -> None:
    """All parts; ``--only layer`` (bytes, train, generate) for one of them."""
    torch.manual_seed(0)
    if settings.wants("layer") or settings.wants("bytes"):
        one_layer(settings, report)
    if settings.wants("train") or settings.wants("generate"):
        with tempfile.TemporaryDirectory() as folder:
            whole_model(settings, report, Path(folder))


# --- one layer --------------------------------------------------------------------------------------------------------


def one_layer(settings: Settings, report: Report) -> None:
    dim, tokens = settings.dim or 4096, settings.tokens or (512 if settings.device.startswith("cuda") else 64)
    P, r, share, batch = settings.experts, settings.rank, settings.dropout, settings.batch
    x = torch.randn(batch, tokens, dim, device=settings.device, dtype=settings.torch_dtype, requires_grad=True)
    upstream = torch.randn_like(x)
    weights = torch.rand(batch, P, device=settings.device).softmax(-1).requires_grad_()
    base = peers.frozen(dim, settings.device, settings.torch_dtype)
    linear = base.proj
    assert isinstance(linear, nn.Linear)
    loop, einsum = (form(linear, P, r, share) for form in (peers.LoopExperts, peers.EinsumExperts))
    loop.weights = einsum.weights = weights
    ours = peers.m3oe(peers.Block(copy.deepcopy(linear)), P, r, share, ["proj"], 64).train()
    many = peers.m3oe(peers.Block(copy.deepcopy(linear)), MANY, r, share, ["proj"], 64).train()
    many_weights = torch.rand(batch, MANY, device=settings.device).softmax(-1).requires_grad_()
    modules = {
        "frozen": base,
        "lora r": peers.PlainLora(linear, r, share),
        "lora P·r": peers.PlainLora(linear, P * r, share),
        "peft lora P·r": peers.peft_lora(peers.Block(copy.deepcopy(linear)), P * r, share, ["proj"]).train(),
        "m3oe": ours,
        f"m3oe {MANY}": many,
        "loop": loop,
        "einsum": einsum,
    }
    forward = {name: _call(module, x) for name, module in modules.items()}
    forward["m3oe"] = _routed(ours, weights, x)
    forward[f"m3oe {MANY}"] = _routed(many, many_weights, x)
    report.title(
        f"one layer, {dim} wide, P = {P}, r = {r}, {batch} × {tokens} tokens, {settings.dtype}, dropout {share}"
    )
    if settings.wants("layer"):
        steps = {
            name: _step(make, upstream, modules[name], [x, weights, many_weights]) for name, make in forward.items()
        }
        seconds = take_turns(steps, device=settings.device, rounds=settings.rounds)
        report.remember("layer", seconds)
        report.add(
            ratio("layer: m3oe / lora P·r, plain", seconds["m3oe"], seconds["lora P·r"], target=1.05),
            ratio("layer: m3oe / lora P·r, peft", seconds["m3oe"], seconds["peft lora P·r"], target=1.05),
            ratio(
                "layer: m3oe / frozen",
                seconds["m3oe"],
                seconds["frozen"],
                target=1.15 if (dim, P * r) == (4096, 96) else None,
            ),
            ratio("layer: lora r / frozen", seconds["lora r"], seconds["frozen"]),
            ratio("layer: einsum / m3oe", seconds["einsum"], seconds["m3oe"], target=1.5, at_least=True),
            ratio("layer: loop / m3oe", seconds["loop"], seconds["m3oe"]),
            ratio(
                f"layer: m3oe of {MANY} / of {P} experts, over their FLOP floors",
                seconds[f"m3oe {MANY}"],
                seconds["m3oe"],
                scale=_floor(dim, P * r) / _floor(dim, MANY * r),
                target=1.15,
            ),
        )
    if settings.wants("bytes"):
        # many tokens, since a few kept casts of the weights don't grow with them
        tokens = max(tokens, 256)
        x = torch.randn(batch, tokens, dim, device=settings.device, dtype=settings.torch_dtype, requires_grad=True)
        forward = {name: _call(module, x) for name, module in modules.items()}
        forward["m3oe"] = _routed(ours, weights, x)
        forward[f"m3oe {MANY}"] = _routed(many, many_weights, x)
        kept = {
            name: kept_bytes(make, [x, *(p for module in modules.values() for p in module.parameters())])
            for name, make in forward.items()
        }
        per_token = {name: value / (batch * tokens) for name, value in kept.items()}
        report.times["kept bytes per token"] = per_token
        print("  kept bytes per token: " + "  ".join(f"{name} {value:.0f}" for name, value in per_token.items()))
        if share == 0:  # dropout keeps its mask and its product in every form, which would hide the difference
            report.add(
                exact("layer: kept bytes, einsum / m3oe", kept["einsum"] / kept["m3oe"], target=50, at_least=True),
                exact("layer: kept bytes, loop / m3oe", kept["loop"] / kept["m3oe"]),
            )


def _call(module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return lambda: module(x)


def _routed(model: PeftModel, weights: Tensor, x: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with model.using(weights):
            return model(x)

    return call


def _step(make: Callable[[], Tensor], upstream: Tensor, module: nn.Module, inputs: list[Tensor]) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad(set_to_none=True)
        for value in inputs:
            value.grad = None
        make().backward(upstream)

    return step


def _floor(dim: int, rank: int) -> float:
    """Multiplications of a forward and backward pass per token: frozen 2·d², adapters 3·2·d·rank."""
    return 2 * dim * dim + 6 * dim * rank


# --- a whole model ----------------------------------------------------------------------------------------------------


def random_llama(settings: Settings) -> LlamaForCausalLM:
    """A few blocks of a Llama with random weights and a small vocabulary."""
    torch.manual_seed(0)
    dim = settings.dim or 768
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=dim,
        intermediate_size=dim * 8 // 3 // 64 * 64,
        num_hidden_layers=BLOCKS,
        num_attention_heads=dim // 64,
        num_key_value_heads=dim // 64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=1024,
    )
    return LlamaForCausalLM(config).to(settings.device, settings.torch_dtype).requires_grad_(False)


def whole_model(settings: Settings, report: Report, folder: Path) -> None:
    P, r, share, batch = settings.experts, settings.rank, settings.dropout, settings.batch
    tokens = settings.tokens or 64
    base = random_llama(settings)
    dim = base.config.hidden_size
    ids = torch.randint(3, 2048, (batch, tokens), device=settings.device)
    weights = torch.rand(batch, P, device=settings.device).softmax(-1).requires_grad_()
    ours = peers.m3oe(copy.deepcopy(base), P, r, share, LLAMA, dim)
    for name, parameter in ours.named_parameters():
        if "m3oe_B" in name:
            nn.init.normal_(parameter, std=0.02)
    xlora = real_xlora(settings, base, folder)
    report.title(
        f"random Llama, {dim} wide, {BLOCKS} blocks, P = {P}, r = {r}, {batch} × {tokens} tokens, {settings.dtype}"
    )
    if settings.wants("train"):
        lora = peers.peft_lora(copy.deepcopy(base), P * r, share, LLAMA)
        models = {
            "frozen": base,
            "lora r": peers.peft_lora(copy.deepcopy(base), r, share, LLAMA),
            "lora P·r": lora,
            "loop": _mixture(peers.LoopExperts, base, weights, settings),
            "einsum": _mixture(peers.EinsumExperts, base, weights, settings),
            "xlora": xlora,
        }
        steps = {name: _train(model.train(), ids) for name, model in models.items()}
        step_ours = _train(ours.train(), ids)

        def mixture() -> None:
            with ours.using(weights):
                step_ours()

        seconds = take_turns({**steps, "m3oe": mixture}, device=settings.device, rounds=settings.rounds)
        report.remember("train", seconds)
        report.add(
            ratio("training step: m3oe / lora P·r, peft", seconds["m3oe"], seconds["lora P·r"], target=1.05),
            ratio("training step: m3oe / frozen", seconds["m3oe"], seconds["frozen"]),
            ratio("training step: lora r / frozen", seconds["lora r"], seconds["frozen"]),
            ratio("training step: loop / m3oe", seconds["loop"], seconds["m3oe"]),
            ratio("training step: einsum / m3oe", seconds["einsum"], seconds["m3oe"], target=1.4, at_least=True),
            ratio("training step: x-lora / m3oe", seconds["xlora"], seconds["m3oe"], target=2.5, at_least=True),
        )
        kept = {name: _kept(model, ids) for name, model in models.items()}
        with ours.using(weights):
            kept["m3oe"] = _kept(ours, ids)
        report.times["kept bytes of a training step"] = {name: float(value) for name, value in kept.items()}
        report.add(
            *(
                exact(f"training step: kept bytes, {name} / m3oe", kept[name] / kept["m3oe"])
                for name in ("frozen", "lora P·r", "loop", "einsum", "xlora")
            )
        )
    if settings.wants("generate"):
        route = weights[0].detach()
        lora_folder = str(ours.export_lora(folder / "export", route))
        exported = PeftModel.from_pretrained(copy.deepcopy(base), lora_folder, autocast_adapter_dtype=False)
        merged = copy.deepcopy(ours)
        merged.merge_route(route)
        ours.set_route_weights(route)
        prompt = {
            "input_ids": ids[:, :32],
            "do_sample": False,
            "max_new_tokens": 8,
            "eos_token_id": None,
            "pad_token_id": 0,
        }
        models = {"base": base, "m3oe merged": merged, "m3oe routed": ours, "exported lora": exported, "xlora": xlora}
        seconds = take_turns(
            {name: _generate(model.eval(), prompt) for name, model in models.items()},
            device=settings.device,
            rounds=settings.rounds,
        )
        report.remember("generate", seconds)
        report.add(
            ratio("generation: m3oe merged / base", seconds["m3oe merged"], seconds["base"], target=1.03),
            ratio(
                "generation: m3oe routed / exported lora", seconds["m3oe routed"], seconds["exported lora"], target=1.05
            ),
            ratio("generation: m3oe routed / base", seconds["m3oe routed"], seconds["base"]),
            ratio(
                "generation: x-lora / m3oe routed", seconds["xlora"], seconds["m3oe routed"], target=8, at_least=True
            ),
        )


def _mixture(
    form: type[peers.LoopExperts] | type[peers.EinsumExperts],
    base: LlamaForCausalLM,
    weights: Tensor,
    settings: Settings,
) -> LlamaForCausalLM:
    """A copy of the model with a mixture written plainly on every projection, under one α per sample."""
    model = copy.deepcopy(base)

    def make(linear: nn.Linear) -> nn.Module:
        experts = form(linear, settings.experts, settings.rank, settings.dropout)
        experts.weights = weights
        return experts

    peers.replace_linears(model, set(LLAMA), make)
    return model


def real_xlora(settings: Settings, base: LlamaForCausalLM, folder: Path) -> nn.Module:
    """``peft.XLoraModel`` with P saved LoRA adapters of rank r as its experts, all trained."""
    adapters = {}
    for index in range(settings.experts):
        config = LoraConfig(
            r=settings.rank, lora_alpha=settings.rank, lora_dropout=settings.dropout, target_modules=LLAMA
        )
        path = folder / f"expert-{index}"
        get_peft_model(copy.deepcopy(base), config).save_pretrained(path)
        adapters[str(index)] = str(path)
    base = copy.deepcopy(base)
    base.config.use_cache = False
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=base.config.hidden_size,
        xlora_depth=1,
        adapters=adapters,
        use_trainable_adapters=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(base, config, autocast_adapter_dtype=False).to(settings.device, settings.torch_dtype)


def _train(model: nn.Module, ids: Tensor) -> Callable[[], None]:
    """Forward and backward through the whole model, from input embeddings that take a gradient, as ours do."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()  # type: ignore[operator]

    def step() -> None:
        embedded.grad = None
        model.zero_grad(set_to_none=True)
        model(inputs_embeds=embedded, labels=ids).loss.backward()

    return step


def _kept(model: nn.Module, ids: Tensor) -> int:
    """Bytes that a forward pass over the whole model keeps for its backward pass, weights not counted."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()  # type: ignore[operator]
    return kept_bytes(lambda: model(inputs_embeds=embedded, labels=ids).loss, [embedded, *model.parameters()])


def _generate(model: nn.Module, prompt: dict[str, object]) -> Callable[[], None]:
    def generate() -> None:
        with torch.no_grad():
            model.generate(**prompt)  # type: ignore[operator]

    return generate
