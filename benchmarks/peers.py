"""What M3OE is measured against, each written plainly, as people usually write it.

# B batch, T tokens, P experts, r rank
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from fedkim.m3oe import M3OEConfig


class Block(nn.Module):
    """One frozen projection under the name that adapters look for."""

    def __init__(self, projection: nn.Module):
        super().__init__()
        self.proj = projection

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def frozen(dim: int, device: str, dtype: torch.dtype) -> Block:
    """The base: a linear layer whose weight takes no gradient."""
    return Block(nn.Linear(dim, dim, bias=False, device=device, dtype=dtype).requires_grad_(False))


class PlainLora(nn.Module):
    """A two-product LoRA with float32 masters, the least that rank R can cost."""

    def __init__(self, base: nn.Linear, rank: int, share: float):
        super().__init__()
        self.base, self.share = base, share
        self.down = nn.Parameter(_kaiming(rank, base))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        hidden = linear(dropout(x, self.share, self.training), self.down.to(x.dtype))
        return self.base(x) + linear(hidden, self.up.to(x.dtype))


class LoopExperts(nn.Module):
    """P little LoRAs in a Python loop, each output weighted by its sample's α."""

    def __init__(self, base: nn.Linear, experts: int, rank: int, share: float):
        super().__init__()
        self.base, self.share = base, share
        like_base = partial(nn.Linear, bias=False, device=base.weight.device, dtype=base.weight.dtype)
        self.down = nn.ModuleList(like_base(base.in_features, rank) for _ in range(experts))
        self.up = nn.ModuleList(like_base(rank, base.out_features) for _ in range(experts))
        self.weights: Tensor  # [B, P]

    def forward(self, x: Tensor) -> Tensor:
        result = self.base(x)
        dropped = dropout(x, self.share, self.training)
        for index, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            result = result + self.weights[:, index, None, None].to(x.dtype) * up(down(dropped))
        return result


class EinsumExperts(nn.Module):
    """The published form: every expert's output [B, T, P, out] at once, then the weighted sum.

    The sum is written as a product and a sum, a third faster on a CPU than as one more einsum.
    """

    def __init__(self, base: nn.Linear, experts: int, rank: int, share: float):
        super().__init__()
        self.base, self.share = base, share
        down = torch.stack([_kaiming(rank, base).T for _ in range(experts)]).to(base.weight.dtype)
        self.down = nn.Parameter(down.contiguous())  # [P, in, r]
        self.up = nn.Parameter(torch.zeros(experts, rank, base.out_features, device=down.device, dtype=down.dtype))
        self.weights: Tensor

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bti,pir->btpr", dropout(x, self.share, self.training), self.down)
        outputs = torch.einsum("btpr,pro->btpo", hidden, self.up)
        return self.base(x) + (outputs * self.weights[:, None, :, None].to(x.dtype)).sum(dim=2)


def _kaiming(rank: int, base: nn.Linear) -> Tensor:
    down = torch.empty(rank, base.in_features, device=base.weight.device)
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    return down


def replace_linears(model: nn.Module, targets: set[str], make: Callable[[nn.Linear], nn.Module]) -> None:
    """Put ``make(linear)`` in the place of each linear layer of one of these names; everything else is frozen."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets and isinstance(child, nn.Linear):
                setattr(module, name, make(child))


def peft_lora(model: nn.Module, rank: int, share: float, targets: list[str]) -> PeftModel:
    """PEFT's LoRA in the base's own dtype (no casts between dtypes)."""
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=share, target_modules=targets)
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def m3oe(model: nn.Module, experts: int, rank: int, share: float, targets: list[str], width: int) -> PeftModel:
    """Ours."""
    config = M3OEConfig(num_experts=experts, r=rank, lora_dropout=share, target_modules=targets, router_embed_dim=width)
    return get_peft_model(model, config)
