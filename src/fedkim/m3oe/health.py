"""Whether the router is well: entropy, usage, collapse, the nearest seen route.

A router that gives every task the same α, or all weight to one expert, still trains and still answers; only these
figures show that there is no mixture left.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.m3oe.route import Route, stack, total_variation

LEAST_ENTROPY = 0.25
"""A route below it has collapsed onto few experts."""
LEAST_VARIATION = 0.03
"""Routes that vary by less on average tell no task from another: ours vary by 0.01 as drawn."""


def balance_penalty(weights: Tensor) -> Tensor:
    """KL(mean of α [G, P] over G routes, those of all seen tasks in training, ‖ uniform) = log P − its entropy.

    Differentiable; 0 when the experts share the work. It says nothing against routes that differ from each other, only against all of them forgetting some experts.
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


def router_health(routes: Sequence[Route]) -> RouterHealth:
    """Entropy per route, mean weight per expert, mean total variation between routes, and what is wrong with them.

    Warned about: a route whose entropy is below :data:`LEAST_ENTROPY`, and a set of two or more routes that vary by less
    than :data:`LEAST_VARIATION` on average (the router ignores the descriptions). Nothing is said about a single
    expert or exactly even routes: they are settings, no router chose them.

    Raises:
        FedkimError: no route, or routes over different numbers of experts.
    """
    if not routes:
        raise FedkimError("router health needs at least one route")
    weights = stack(routes)
    pairs = [
        float(total_variation(weights[i], weights[j])) for i in range(len(routes)) for j in range(i + 1, len(routes))
    ]
    variation = sum(pairs) / len(pairs) if pairs else 0.0
    collapsed = [route for route in routes if route.entropy < LEAST_ENTROPY]
    even = bool((weights == weights[0, 0]).all())
    indistinct = bool(pairs) and variation < LEAST_VARIATION and not even
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
    distances = total_variation(stack(candidates), stack([route]))
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


def _name(route: Route) -> str:
    return f"{route.task} ({', '.join(route.modalities) or 'no modality'})"
