"""A bfloat16 linear layer on a processor: rounded from float32 against torch's own bfloat16 product and the float32 one.

Forward and backward of one frozen layer of SmolLM2-135M's shape over a micro-batch of 8 × 28 tokens. Where the processor multiplies
in bfloat16 the rounded one isn't used, and the first ratio shows why; elsewhere the last one says what bfloat16 costs over float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

import fedkim.m3oe.linear as module
from benchmarks.measure import Report, Settings, ratio, take_turns

WIDTH, HIDDEN = 576, 1536
TOKENS = 8 * 28


def run(settings: Settings, report: Report) -> None:
    """Rounded and native bfloat16 and float32, by turns."""
    x, weight = torch.randn(TOKENS, WIDTH), torch.randn(HIDDEN, WIDTH)
    narrow = x.to(torch.bfloat16), weight.to(torch.bfloat16)

    def step(x: Tensor, weight: Tensor, rounds: bool) -> None:
        x = x.detach().requires_grad_()
        (module._Rounded.apply(x, weight, None) if rounds else functional.linear(x, weight)).sum().backward()

    multiplies = module.cpu_computes_bfloat16()
    report.title(
        f"linear layer {WIDTH} → {HIDDEN}, {TOKENS} tokens; this processor multiplies in bfloat16: {multiplies}"
    )
    seconds = take_turns(
        {
            "rounded": lambda: step(*narrow, True),
            "bfloat16": lambda: step(*narrow, False),
            "float32": lambda: step(x, weight, False),
        },
        device="cpu",
        rounds=settings.rounds,
    )
    report.remember("linear", seconds)
    target = None if multiplies else 0.5
    report.add(
        ratio("rounded / torch's bfloat16", seconds["rounded"], seconds["bfloat16"], target=target),
        ratio("rounded / float32", seconds["rounded"], seconds["float32"]),
        ratio("torch's bfloat16 / float32", seconds["bfloat16"], seconds["float32"]),
    )
