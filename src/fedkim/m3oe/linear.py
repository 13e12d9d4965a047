"""Linear layers in bfloat16 on a processor that doesn't multiply in it: in float32, rounded once.

torch multiplies bfloat16 matrices there element by element, several times slower than float32. Products of two bfloat16
numbers are exact in float32, and processors that do multiply in bfloat16 add them up in float32 too, so the results are
those of such a processor but for the order of the sum.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

ROWS = 8192
"""Rows of a weight at once: of a vocabulary's matrix no whole float32 copy is held."""


def cpu_computes_bfloat16() -> bool:
    """Whether this processor has avx512_bf16 or amx."""
    has = torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported
    return any(bool(check()) for check in has)


_ROUNDS = not cpu_computes_bfloat16()


def product_in_float32(x: Tensor, weight: Tensor) -> Tensor:
    """``x Wᵀ`` in float32 of whatever dtypes, ``[..., in]`` and ``[out, in]`` → ``[..., out]``, a block of rows after the other."""
    wide = x.float()
    return torch.cat([wide @ part.float().T for part in weight.split(ROWS)], dim=-1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x Wᵀ + b``, ``[..., in]``, ``[out, in]`` and ``[out]`` → ``[..., out]``, in the fastest way this machine has."""
    if x.dtype == torch.bfloat16 == weight.dtype and x.device.type == "cpu" and _ROUNDS:
        return _Rounded.apply(x, weight, bias)
    return functional.linear(x, weight, bias)


class RoundedLinear(nn.Linear):
    """A linear layer over :func:`linear`; its weight stays bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        return linear(x, self.weight, self.bias)


def use_rounded_linear(model: nn.Module) -> None:
    """Let a model's plain linear layers multiply in float32 and round; quantised and adapted ones stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = RoundedLinear


class _Rounded(Function):
    """Keeps its inputs in bfloat16: float32 copies of every weight until the backward pass would triple the model."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        with torch.autocast("cpu", enabled=False):
            result = product_in_float32(x, weight)
            return (result if bias is None else result + bias.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradients[0].float()
        rows = gradient.reshape(-1, gradient.shape[-1])
        with torch.autocast("cpu", enabled=False):
            parts = zip(gradient.split(ROWS, dim=-1), weight.split(ROWS))
            return (
                sum((one @ part.float() for one, part in parts), torch.zeros(())).to(x.dtype) if of_x else None,
                (rows.T @ x.float().reshape(-1, x.shape[-1])).to(weight.dtype) if of_weight else None,
                rows.sum(dim=0).to(weight.dtype) if of_bias else None,
            )
