"""Routes as records, and whether the router is well: entropy, usage, collapse, the nearest seen route.

A router that gives every task the same α, or all weight to one expert, still trains and still answers; only these
figures show that there is no mixture left.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
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
        """In [0, 1]: 1 is the uniform mixture, 0 a single expert."""
        return float(entropy(torch.tensor(self.weights, dtype=torch.float64)))

    def to_json(self) -> dict[str, Any]:
        """A plain record for reports, with the entropy beside the weights."""
        return {
            **asdict(self),
            "modalities": list(self.modalities),
            "weights": list(self.weights),
            "entropy": self.entropy,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Route":
        """The inverse of :meth:`to_json`."""
        return cls(
            task=str(record["task"]),
            modalities=tuple(record["modalities"]),
            weights=tuple(float(weight) for weight in record["weights"]),
            router=str(record.get("router", "")),
        )


def entropy(weights: Tensor) -> Tensor:
    """Entropy of α [..., P] over log P, so that it lies in [0, 1]; one expert alone counts as 1."""
    num_experts = weights.shape[-1]
    if num_experts == 1:
        return torch.ones_like(weights[..., 0])
    return -(weights.clamp_min(torch.finfo(weights.dtype).tiny).log() * weights).sum(-1) / math.log(num_experts)


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Half the summed difference of two routes [..., P]: 0 equal, 1 no expert in common."""
    return (first - second).abs().sum(-1) / 2


def balance_penalty(weights: Tensor) -> Tensor:
    """1 − entropy of the mean of α [G, P] over a step's routes; differentiable, 0 when the experts share the work.

    It says nothing against routes that differ from each other, only against all of them forgetting some experts.
    """
    return 1 - entropy(weights.mean(dim=0))


@dataclass(frozen=True, kw_only=True)
class RouterHealth:
    """Figures over a set of routes; see :func:`router_health`."""

    entropy: dict[str, float]
    usage: tuple[float, ...]
    mean_variation: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain record for logs and reports."""
        return {**asdict(self), "usage": list(self.usage), "warnings": list(self.warnings)}


def router_health(
    routes: Sequence[Route], *, least_entropy: float = 0.25, least_variation: float = 0.01
) -> RouterHealth:
    """Entropy per route, mean weight per expert, mean total variation between routes, and what is wrong with them.

    Warned about: a route whose entropy is below ``least_entropy`` (collapsed onto few experts), and a set of two or
    more routes that vary by less than ``least_variation`` on average (the router ignores the descriptions).
    """
    if not routes:
        raise FedkimError("router health needs at least one route")
    weights = _stack(routes)
    pairs = [
        float(total_variation(weights[i], weights[j])) for i in range(len(routes)) for j in range(i + 1, len(routes))
    ]
    variation = sum(pairs) / len(pairs) if pairs else 0.0
    warnings = [
        f"route of {_name(route)} has collapsed: entropy {route.entropy:.2f}, expert {max(range(weights.shape[1]), key=route.weights.__getitem__)} holds {max(route.weights):.0%}"
        for route in routes
        if route.entropy < least_entropy
    ]
    if pairs and variation < least_variation:
        warnings.append(
            f"{len(routes)} routes differ by {variation:.4f} on average: the router tells no task from another"
        )
    return RouterHealth(
        entropy={_name(route): route.entropy for route in routes},
        usage=tuple(weights.mean(dim=0).tolist()),
        mean_variation=variation,
        warnings=tuple(warnings),
    )


def nearest_route(route: Route, seen: Iterable[Route]) -> tuple[Route, float]:
    """The seen route with the smallest total variation from ``route``, and that distance."""
    candidates = list(seen)
    if not candidates:
        raise FedkimError(f"no seen route to compare {_name(route)} with")
    distances = total_variation(_stack(candidates), _stack([route]))
    index = int(distances.argmin())
    return candidates[index], float(distances[index])


def _stack(routes: Sequence[Route]) -> Tensor:
    lengths = {len(route.weights) for route in routes}
    if len(lengths) != 1:
        raise FedkimError("routes to compare", found=f"numbers of experts {sorted(lengths)}", expected="one number")
    return torch.tensor([route.weights for route in routes], dtype=torch.float64)


def _name(route: Route) -> str:
    return f"{route.task} ({', '.join(route.modalities) or 'no modality'})"
