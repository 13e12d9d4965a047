"""Aggregation: which updates may enter, and how they become the next state."""

from fedkim.aggregation.algorithms import ALGORITHMS, Algorithm, Memory, fedavg, fedprox, weighted_mean
from fedkim.aggregation.gate import Rejection, gate

__all__ = ["ALGORITHMS", "Algorithm", "Memory", "Rejection", "fedavg", "fedprox", "gate", "weighted_mean"]
