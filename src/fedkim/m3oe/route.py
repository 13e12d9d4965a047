"""Route: the weights α that one task on one set of modalities gives to the experts, as a record."""

# G routes, P experts

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fedkim.errors import FedkimError


@dataclass(frozen=True, kw_only=True)
class Route:
    """α of one task and one set of modalities; the router's digest says which router it came from."""

    task: str
    modalities: tuple[str, ...]
    weights: tuple[float, ...]
    router: str = ""

    @property
    def entropy(self) -> float:
        """In [0, 1]: 1 is the uniform mixture, 0 one expert of several."""
        return float(entropy(torch.tensor(self.weights, dtype=torch.float64)))

    def distance(self, other: "Route") -> float:
        """Total variation from another route: 0 equal, 1 no expert in common."""
        return float(total_variation(*stack([self, other])))

    def to_json(self) -> dict[str, Any]:
        """A plain record for reports, with the entropy beside the weights."""
        return {
            **asdict(self),
            "modalities": list(self.modalities),
            "weights": list(self.weights),
            "entropy": self.entropy,
        }


def entropy(weights: Tensor) -> Tensor:
    """Entropy of α [..., P] over log P, so that it lies in [0, 1]; a mixture of one expert counts as 1, the even one."""
    num_experts = weights.shape[-1]
    if num_experts < 2:
        return weights.new_ones(weights.shape[:-1])
    return -(weights.clamp_min(torch.finfo(weights.dtype).tiny).log() * weights).sum(-1) / math.log(num_experts)


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Half the summed difference of two routes [..., P]: 0 equal, 1 no expert in common."""
    return (first - second).abs().sum(-1) / 2


def stack(routes: Sequence[Route]) -> Tensor:
    """α of several routes, [G, P].

    Raises:
        FedkimError: routes over different numbers of experts.
    """
    lengths = {len(route.weights) for route in routes}
    if len(lengths) != 1:
        raise FedkimError("routes to compare", found=f"numbers of experts {sorted(lengths)}", expected="one number")
    return torch.tensor([route.weights for route in routes], dtype=torch.float64)
