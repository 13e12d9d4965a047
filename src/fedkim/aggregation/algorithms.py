"""FedAvg and FedProx as pairs of pure functions: what drifting costs a site, and how updates become one state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.state import State, Update, component

Memory = State
"""What an algorithm remembers between rounds (server momentum, control variates); empty for FedAvg and FedProx."""

Penalty = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""``(parameters, reference) -> scalar`` added to a site's loss."""

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


def weighted_mean(previous: State, updates: Sequence[Update]) -> State:
    """Average key by key over the sites that sent the key: θ = Σ_n w_n θ_n with w_n ∝ examples of the component.

    A site without a modality neither dilutes nor votes on its encoder; where nobody sent a component the previous
    value stays. Sums run in float64 in the sites' name order, so neither arrival order nor site count changes a bit.

    Args:
        previous: the state of the last round.
        updates: at most one per site; shapes as in ``previous`` (the gate has checked them).
    """
    ordered = sorted(updates, key=lambda update: update.site)
    averaged: dict[str, Tensor] = {}
    for key in sorted({key for update in ordered for key in update.state}):
        senders = [update for update in ordered if key in update.state]
        counts = [update.num_examples[component(key)] for update in senders]
        total = sum(counts)
        if total <= 0:
            raise FedkimError(
                f"component {component(key)!r}", found=f"{total} examples in all", expected="at least one"
            )
        like = senders[0].state[key]
        mean = torch.zeros(like.shape, dtype=torch.float64)
        for update, count in zip(senders, counts):
            mean.add_(update.state[key].to(torch.float64), alpha=count / total)
        averaged[key] = mean.to(like.dtype) if like.is_floating_point() else mean.round().to(like.dtype)
    return previous.updated(averaged)


def proximal_term(mu: float) -> Penalty:
    """(μ/2)·‖θ_n − θ‖² over all of a site's parameters (Li et al. 2020, *FedProx*, equation 2)."""

    def penalty(parameters: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
        drift = [(parameter - reference[name]).square().sum() for name, parameter in parameters.items()]
        return 0.5 * mu * torch.stack(drift).sum()

    return penalty


def _average(previous: State, updates: Sequence[Update], memory: Memory) -> tuple[State, Memory]:
    return weighted_mean(previous, updates), memory


def fedavg(*, proximal_mu: float = 0.0) -> Algorithm:
    """Weighted averaging (McMahan et al. 2017); ``proximal_mu`` is FedProx's and is not used."""
    return Algorithm(name="fedavg", aggregate=_average)


def fedprox(*, proximal_mu: float = 0.01) -> Algorithm:
    """FedAvg with a leash: sites pay (μ/2)·‖θ_n − θ‖² for drifting from the broadcast weights (Li et al. 2020)."""
    return Algorithm(name="fedprox", aggregate=_average, penalty=proximal_term(proximal_mu))


ALGORITHMS: dict[str, Callable[..., Algorithm]] = {"fedavg": fedavg, "fedprox": fedprox}
"""By name: makers that take the recipe's settings as keywords. Open: add your own."""
