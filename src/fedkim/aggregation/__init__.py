"""Aggregation: which updates may enter, and how they become the next state."""

from fedkim.aggregation.algorithms import ALGORITHMS, Algorithm, Memory, fedavg, fedprox, weighted_mean
from fedkim.aggregation.gate import Limits, Rejection, gate, objection

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Limits",
    "Memory",
    "Rejection",
    "fedavg",
    "fedprox",
    "gate",
    "objection",
    "weighted_mean",
]
