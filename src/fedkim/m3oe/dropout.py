"""Dropout that takes a third of the time on a CPU, where torch's own would be a quarter of a training step.

torch draws one random number per element; here one 64-bit number decides four. The share is rounded to a 65536th, and
what is kept is scaled by the exact inverse, so the expectation is unchanged.
"""

import torch
from torch import Tensor
from torch.nn.functional import dropout

_LEVELS = 2**16


def thin(x: Tensor, share: float, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """Zero about this share of x's elements; gives the thinned x and the factor that restores its expectation.

    The factor is left to the caller, who has a much smaller tensor to multiply. ``generator`` None is torch's default;
    it must lie on x's device.
    """
    if generator is None and (x.is_cuda or torch.compiler.is_compiling()):
        return dropout(x, share), 1.0  # one fused kernel there
    dropped = min(round(share * _LEVELS), _LEVELS - 1)  # a share next to 1 keeps one draw in so many
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
    draws.random_(-(2**63), None, generator=generator)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return x * (bits >= dropped - _LEVELS // 2).to(x.dtype), _LEVELS / (_LEVELS - dropped)
