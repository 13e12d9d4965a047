"""FedAvg and FedProx as pairs of pure functions: what drifting costs a site, and how updates become one state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedkim.aggregation.sums import weighted_sum
from fedkim.errors import FedkimError
from fedkim.state import Penalty, State, Update, component

Memory = State
"""What an algorithm remembers between rounds at the server (its momentum); empty for FedAvg and FedProx. Sites don't see it."""

TooFew = Literal["keep", "mean"]
"""What becomes of a component with too few contributors: it keeps the broadcast's value, or is averaged as by FedAvg."""

Aggregate = Callable[[State, Sequence[Update], Memory], tuple[State, Memory]]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm: the penalty a site pays for drifting, and the rule that turns updates into a state.

    The penalty belongs to the algorithm and not to the sites' code, so that choosing FedProx can't leave a site
    that silently trains FedAvg.
    """

    name: str
    aggregate: Aggregate
    penalty: Penalty | None = None
    least: int = 1
    """Sites that must contribute to a component for the rule to hold what it promises."""
    too_few: TooFew = "mean"
    """What becomes of a component with fewer."""


def aggregate(algorithm: Algorithm, previous: State, updates: Sequence[Update], memory: Memory) -> tuple[State, Memory]:
    """What the algorithm makes of a round's updates; of a plug-in's it is checked that it is a state like the one before.

    Raises:
        FedkimError: no pair of state and memory, other tensors than before, or a number that isn't finite.
    """
    came = algorithm.aggregate(previous, updates, memory)
    what, expected = (
        f"aggregation by {algorithm.name!r}",
        "a pair: the state, all of it and finite, and what is remembered",
    )
    if not isinstance(came, tuple) or len(came) != 2 or not all(isinstance(part, State) for part in came):
        raise FedkimError(what, found=type(came).__name__, expected=expected)
    state, remembered = came
    if sorted(state) != sorted(previous):
        odd = sorted(set(state) ^ set(previous))[0]
        raise FedkimError(what, found=f"{'no ' if odd in previous else ''}tensor {odd!r}", expected=expected)
    for key, tensor in state.items():
        if tensor.shape != previous[key].shape or tensor.dtype != previous[key].dtype:
            raise FedkimError(what, found=f"{key!r} of another shape or type", expected=expected)
        if not torch.isfinite(tensor).all():
            raise FedkimError(what, found=f"{key!r} with a number that isn't finite", expected=expected)
    return state, remembered


def contributors(updates: Sequence[Update]) -> dict[str, list[Update]]:
    """Who sent each component, in the sites' name order, so that arrival order changes no bit."""
    by_component: dict[str, list[Update]] = {}
    for update in sorted(updates, key=lambda update: update.site):
        for name in update.state.components():
            by_component.setdefault(name, []).append(update)
    return dict(sorted(by_component.items()))


def weighted_mean(previous: State, updates: Sequence[Update]) -> State:
    """Average component by component over the sites that sent it: θ = Σ_n w_n θ_n with w_n ∝ examples of the component.

    A site without a modality neither dilutes nor votes on its encoder; where nobody sent a component the previous
    value stays. Sums run in float64 in the sites' name order, so the order of arrival changes no bit.
    Updates may be mapped from files (:class:`~fedkim.aggregation.spool.Spool`): the bits are the same.

    Args:
        previous: the state of the last round.
        updates: at most one per site; shapes as in ``previous`` (the gate has checked them).

    Raises:
        FedkimError: a component without an example.
    """
    averaged: dict[str, Tensor] = {}
    for name, senders in contributors(updates).items():
        averaged.update(mean_of(name, senders))
    return previous.updated(averaged)


def mean_of(name: str, senders: Sequence[Update]) -> dict[str, Tensor]:
    """One component's tensors, averaged by examples; ``senders`` in the order of the sums.

    Raises:
        FedkimError: no example at all.
    """
    counts = [update.num_examples[name] for update in senders]
    total = sum(counts)
    if total <= 0:
        raise FedkimError(f"component {name!r}", found=f"{total} examples in all", expected="at least one")
    weights = [count / total for count in counts]
    keys = [key for key in senders[0].state if component(key) == name]
    return {key: weighted_sum([update.state[key] for update in senders], weights) for key in keys}


def proximal_term(mu: float) -> Penalty:
    """(μ/2)·‖θ_n − θ‖² over all of a site's parameters (Li et al. 2020, *FedProx*, equation 2)."""

    def penalty(parameters: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
        drift = [(parameter - reference[name]).square().sum() for name, parameter in parameters.items()]
        return 0.5 * mu * torch.stack(drift).sum()

    return penalty


def _average(previous: State, updates: Sequence[Update], memory: Memory) -> tuple[State, Memory]:
    return weighted_mean(previous, updates), memory


def fedavg() -> Algorithm:
    """Weighted averaging (McMahan et al. 2017)."""
    return Algorithm(name="fedavg", aggregate=_average)


def fedprox(*, proximal_mu: float = 0.01) -> Algorithm:
    """FedAvg with a leash: sites pay (μ/2)·‖θ_n − θ‖² for drifting from the broadcast weights (Li et al. 2020)."""
    return Algorithm(name="fedprox", aggregate=_average, penalty=proximal_term(proximal_mu))
