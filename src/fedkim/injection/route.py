"""Route: the expert weights α of one (task, modality set), readable and serialisable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Route:
    """What the router answered for a task on a set of modalities; the same for every token, layer and patient."""

    task: str
    modalities: tuple[str, ...]
    weights: tuple[float, ...]
    """α, one weight per expert; sums to one."""

    @property
    def entropy(self) -> float:
        """Entropy of α as a share of ln P: 1 is the uniform route, 0 a single expert."""
        if len(self.weights) < 2:
            return 0.0
        return -sum(w * math.log(w) for w in self.weights if w > 0) / math.log(len(self.weights))

    def distance(self, other: "Route") -> float:
        """Total variation between two routes: 0 the same, 1 disjoint experts."""
        return 0.5 * sum(abs(a - b) for a, b in zip(self.weights, other.weights))


def mean_distance(routes: Sequence[Route]) -> float:
    """Mean total variation over all pairs of tasks: whether the router tells tasks apart at all."""
    pairs = [(a, b) for i, a in enumerate(routes) for b in routes[i + 1 :]]
    return sum(a.distance(b) for a, b in pairs) / len(pairs) if pairs else 0.0


def summary(routes: Mapping[str, Route]) -> dict[str, object]:
    """Routes as JSON for reports: weights and entropy by task, mean total variation between tasks."""
    return {
        "experts": max((len(route.weights) for route in routes.values()), default=0),
        "tasks": {task: [round(w, 6) for w in route.weights] for task, route in routes.items()},
        "entropy": {task: round(route.entropy, 6) for task, route in routes.items()},
        "total_variation": round(mean_distance(list(routes.values())), 6),
    }
