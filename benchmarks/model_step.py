"""The whole training step of a language model with M3OE, against what its multiplications must cost.

A frozen forward pass is 1; the step needs the forward pass, the same again for the gradients that flow through the
frozen weights, and three passes through the adapters (forward, gradient of their input, gradient of themselves):

    floor = 2 + 3 · P_adapter / P_frozen

The model has the shape of SmolLM2-135M (``--llm mmedlm2``: of InternLM2-7B, or another registered one) and random
weights, on whose values no time depends. As in training, only the answer's positions go through the head, and α comes from the router.
"""

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import peers
from benchmarks.m3oe import LLAMA
from benchmarks.measure import Report, Settings, exact, ratio, take_turns
from fedkim.errors import unknown
from fedkim.injection import LLMS

ANSWER = 4
"""Positions of each sample whose logits are needed."""
ROUTES, TASK_TOKENS, MODALITY_TOKENS = 4, 30, 20


def run(settings: Settings, report: Report) -> None:
    """The step with and without the optimiser and dropout, and the router's share of it."""
    shape = settings.llm or "smollm2-135m"
    base = _base(shape, settings)
    tokens = settings.tokens or 64
    # frozen weights that a token meets; of the head, only for the positions that go through it
    head = base.lm_head.weight.numel()
    frozen = sum(m.weight.numel() for m in base.modules() if isinstance(m, nn.Linear)) - head + head * ANSWER / tokens
    width = base.config.hidden_size
    model = peers.m3oe(base, settings.experts, settings.rank, settings.dropout, LLAMA, width).train()
    adapters = sum(p.numel() for name, p in model.named_parameters() if "m3oe_A" in name or "m3oe_B" in name)
    floor = 2 + 3 * adapters / frozen
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    embedded = torch.randn(settings.batch, tokens, width, device=settings.device, dtype=settings.torch_dtype)
    embedded.requires_grad_()
    labels = torch.randint(3, 1000, (settings.batch, ANSWER), device=settings.device)
    task = torch.randn(ROUTES, TASK_TOKENS, width, device=settings.device)
    modality = torch.randn(ROUTES, MODALITY_TOKENS, width, device=settings.device)
    which = torch.arange(settings.batch, device=settings.device) % ROUTES
    optimiser = torch.optim.Adam(trained, lr=1e-4)

    def forward() -> None:
        with torch.no_grad(), model.disable_adapter():
            model(inputs_embeds=embedded, logits_to_keep=ANSWER)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        embedded.grad = None
        with model.using(model.route_weights(task, modality)[which]):
            logits = model(inputs_embeds=embedded, logits_to_keep=ANSWER).logits
            nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten()).backward()

    def whole() -> None:
        step()
        optimiser.step()

    def route() -> None:
        optimiser.zero_grad(set_to_none=True)
        weights: Tensor = model.route_weights(task, modality)
        weights[:, 0].sum().backward()

    report.title(
        f"{shape}: {settings.batch} × {tokens} tokens, P = {settings.experts}, r = {settings.rank}, {settings.dtype}, "
        f"dropout {settings.dropout}; {adapters / 1e6:.1f} M adapter and {frozen / 1e6:.1f} M frozen weights, floor {floor:.2f}"
    )
    if settings.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    turns = {"forward": forward, "step": step, "step with Adam": whole, "router": route}
    seconds = take_turns(turns, device=settings.device, rounds=settings.rounds, warm_up=1)
    report.remember(shape, seconds)
    report.add(
        ratio("step / frozen forward", seconds["step"], seconds["forward"]),
        ratio(
            "step / frozen forward, over the FLOP floor",
            seconds["step"],
            seconds["forward"],
            scale=1 / floor,
            target=1.15,
        ),
        ratio(
            "step with Adam / frozen forward, over the FLOP floor",
            seconds["step with Adam"],
            seconds["forward"],
            scale=1 / floor,
        ),
        ratio("router, forward and backward / step", seconds["router"], seconds["step"], target=0.01),
    )
    if settings.device.startswith("cuda"):
        report.add(exact("peak memory of a step, GB", torch.cuda.max_memory_allocated() / 1e9))


def _base(shape: str, settings: Settings) -> LlamaForCausalLM:
    """A Llama of this shape, straight on the device and in the dtype, with random weights."""
    if shape not in LLMS:
        raise unknown("language model", shape, LLMS)
    torch.manual_seed(0)
    config = LlamaConfig(**LLMS[shape].config, max_position_embeddings=4096, pad_token_id=0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(settings.torch_dtype)
    try:
        with torch.device(settings.device):
            return LlamaForCausalLM(config).requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
