"""An algorithm of your own: FedAvg with momentum at the server (Hsu et al. 2019, arXiv 1909.06335)."""

from fedkim.aggregation import ALGORITHMS, Algorithm, weighted_mean
from fedkim.state import State

MOMENTUM = 0.9


def fedavgm() -> Algorithm:
    """Each round moves on by the mean's step and nine tenths of the last move; the moves are the algorithm's memory."""

    def aggregate(previous, updates, memory):
        mean = weighted_mean(previous, updates)
        step = {key: value - previous[key] for key, value in mean.items() if value.is_floating_point()}
        move = State({key: MOMENTUM * memory[key] + s if key in memory else s for key, s in step.items()})
        return mean.updated({key: previous[key] + m for key, m in move.items()}), move

    return Algorithm(name="fedavgm", aggregate=aggregate)  # penalty=…: what a site pays for drifting


ALGORITHMS["fedavgm"] = fedavgm
