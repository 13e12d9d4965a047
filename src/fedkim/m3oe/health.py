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
        """In [0, 1]: 1 is the uniform mixture, 0 one expert of several."""
        return float(entropy(torch.tensor(self.weights, dtype=torch.float64)))

    def distance(self, other: "Route") -> float:
        """Total variation from another route: 0 equal, 1 no expert in common."""
        return float(total_variation(*_stack([self, other])))

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
    """Entropy of α [..., P] over log P, so that it lies in [0, 1]; a mixture of one expert counts as 1, the even one."""
    num_experts = weights.shape[-1]
    if num_experts < 2:
        return weights.new_ones(weights.shape[:-1])
    return -(weights.clamp_min(torch.finfo(weights.dtype).tiny).log() * weights).sum(-1) / math.log(num_experts)


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Half the summed difference of two routes [..., P]: 0 equal, 1 no expert in common."""
    return (first - second).abs().sum(-1) / 2


def balance_penalty(weights: Tensor) -> Tensor:
    """KL(mean of α [G, P] over a step's G routes ‖ uniform) = log P − its entropy; differentiable, 0 when the experts share the work.

    It says nothing against routes that differ from each other, only against all of them forgetting some experts.
    """
    mean = weights.mean(0)
    return (mean * (mean.clamp_min(1e-12).log() + math.log(len(mean)))).sum()


@dataclass(frozen=True, kw_only=True)
class RouterHealth:
    """Figures over a set of routes; see :func:`router_health`."""

    entropy: dict[str, float]
    usage: tuple[float, ...]
    """Mean α of each expert over the routes."""
    mean_variation: float
    """Mean total variation over all pairs of routes."""
    collapsed: tuple[str, ...]
    """Tasks whose route lies on few experts."""
    indistinct: bool
    """Whether the router hardly tells one task from another."""
    warnings: tuple[str, ...]
    """The last two in words."""

    def to_json(self) -> dict[str, Any]:
        """A plain record for logs and reports."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def router_health(
    routes: Sequence[Route], *, least_entropy: float = 0.25, least_variation: float = 0.03
) -> RouterHealth:
    """Entropy per route, mean weight per expert, mean total variation between routes, and what is wrong with them.

    Warned about: a route whose entropy is below ``least_entropy`` (collapsed onto few experts), and a set of two or
    more routes that vary by less than ``least_variation`` on average (the router ignores the descriptions: ours
    varies by 0.01 as drawn). Nothing is said about a single expert or exactly even routes: they are settings, no
    router chose them.

    Raises:
        FedkimError: no route, or routes over different numbers of experts.
    """
    if not routes:
        raise FedkimError("router health needs at least one route")
    weights = _stack(routes)
    pairs = [
        float(total_variation(weights[i], weights[j])) for i in range(len(routes)) for j in range(i + 1, len(routes))
    ]
    variation = sum(pairs) / len(pairs) if pairs else 0.0
    collapsed = [route for route in routes if route.entropy < least_entropy]
    even = bool((weights == weights[0, 0]).all())
    indistinct = bool(pairs) and variation < least_variation and not even
    warnings = [_in_words(route) for route in collapsed]
    if indistinct:
        warnings.append(
            f"{len(routes)} routes differ by {variation:.4f} on average: the router tells no task from another"
        )
    return RouterHealth(
        entropy={_name(route): route.entropy for route in routes},
        usage=tuple(weights.mean(dim=0).tolist()),
        mean_variation=variation,
        collapsed=tuple(route.task for route in collapsed),
        indistinct=indistinct,
        warnings=tuple(warnings),
    )


def routes_record(seen: Sequence[Route], unseen: Sequence[Route] = ()) -> dict[str, Any]:
    """All routes of a run as one JSON record: α and entropy by task, the router's health, the nearest seen route.

    ``usage`` and ``warnings`` are about the seen tasks, on which the router was trained; ``total_variation`` is over
    all pairs of tasks; ``nearest`` has an entry per unseen task: where its descriptions landed among the seen ones.
    """
    everything = [*seen, *unseen]
    health = router_health(seen)
    return {
        "experts": len(everything[0].weights),
        "router": everything[0].router,
        "tasks": {route.task: [round(weight, 6) for weight in route.weights] for route in everything},
        "modalities": {route.task: list(route.modalities) for route in everything},
        "entropy": {route.task: round(route.entropy, 6) for route in everything},
        "total_variation": round(router_health(everything).mean_variation, 6),
        "usage": [round(share, 6) for share in health.usage],
        "collapsed": list(health.collapsed),
        "indistinct": health.indistinct,
        "warnings": list(health.warnings),
        "nearest": {route.task: _nearest_record(route, seen) for route in unseen},
    }


def nearest_route(route: Route, seen: Iterable[Route]) -> tuple[Route, float]:
    """The seen route with the smallest total variation from ``route``, and that distance.

    Raises:
        FedkimError: no seen route, or one over another number of experts.
    """
    candidates = list(seen)
    if not candidates:
        raise FedkimError(f"no seen route to compare {_name(route)} with")
    distances = total_variation(_stack(candidates), _stack([route]))
    index = int(distances.argmin())
    return candidates[index], float(distances[index])


def _nearest_record(route: Route, seen: Iterable[Route]) -> dict[str, Any]:
    nearest, distance = nearest_route(route, seen)
    return {"task": nearest.task, "total_variation": round(distance, 6)}


def _in_words(route: Route) -> str:
    largest = max(route.weights)
    return (
        f"route of {_name(route)} has collapsed: entropy {route.entropy:.2f}, "
        f"expert {route.weights.index(largest)} holds {largest:.0%}"
    )


def _stack(routes: Sequence[Route]) -> Tensor:
    lengths = {len(route.weights) for route in routes}
    if len(lengths) != 1:
        raise FedkimError("routes to compare", found=f"numbers of experts {sorted(lengths)}", expected="one number")
    return torch.tensor([route.weights for route in routes], dtype=torch.float64)


def _name(route: Route) -> str:
    return f"{route.task} ({', '.join(route.modalities) or 'no modality'})"
