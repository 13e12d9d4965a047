"""Aggregation: which updates may enter, and how they become the next state."""

from fedkim.aggregation.algorithms import Algorithm, Memory, aggregate, fedavg, fedprox, weighted_mean
from fedkim.aggregation.gate import NO_LIMITS, Limits, Rejection, gate, objection
from fedkim.aggregation.registry import ALGORITHMS, ROBUST, make_algorithm
from fedkim.aggregation.robust import check_owners, short_of_sites
from fedkim.aggregation.spool import Spool

__all__ = [
    "ALGORITHMS",
    "NO_LIMITS",
    "ROBUST",
    "Algorithm",
    "Limits",
    "Memory",
    "Rejection",
    "Spool",
    "aggregate",
    "check_owners",
    "fedavg",
    "fedprox",
    "gate",
    "make_algorithm",
    "objection",
    "short_of_sites",
    "weighted_mean",
]
