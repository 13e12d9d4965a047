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


def cpu_computes_bfloat16() -> bool:
    """Whether this processor has avx512_bf16 or amx."""
    has = torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported
    return any(bool(check()) for check in has)


_ROUNDS = not cpu_computes_bfloat16()


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x Wᵀ``, ``[..., in]`` and ``[out, in]`` → ``[..., out]``, in the fastest way this machine has."""
    if x.dtype == torch.bfloat16 == weight.dtype and x.device.type == "cpu" and _ROUNDS:
        return _Rounded.apply(x, weight)
    return functional.linear(x, weight)


class RoundedLinear(nn.Linear):
    """A linear layer over :func:`linear`; its weight stays bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        result = linear(x, self.weight)
        return result if self.bias is None else result + self.bias


def use_rounded_linear(model: nn.Module) -> None:
    """Let a model's plain linear layers multiply in float32 and round; quantised and adapted ones stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = RoundedLinear


class _Rounded(Function):
    """Keeps its inputs in bfloat16: float32 copies of every weight until the backward pass would triple the model."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return (x.float() @ weight.float().T).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].float()
        of_x = (gradient @ weight.float()).to(x.dtype) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient.flatten(0, -2).T @ x.float().flatten(0, -2)).to(weight.dtype)
        return of_x, of_weight
