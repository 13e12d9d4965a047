"""Robust rules: the next state when some of the sites may lie. They work per component, and never fall back unasked.

A rule sees one component at a time: the broadcast's tensors, the contributors' in the order of the sites' names, their counts of
examples. A site without an ECG is no contributor to the ECG encoder, so it neither helps nor outvotes there. Every rule says how
many contributors it needs to hold its promise (:attr:`Algorithm.least`); a component that has fewer in a round keeps the
broadcast's value, unless the recipe says ``too_few = "mean"``, and the round's log names it either way (:func:`short_of_sites`).
Counts of examples are claims: only the clipped mean uses them, and caps what they can do.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor

from fedkim.aggregation.algorithms import Aggregate, Algorithm, Memory, TooFew, contributors, mean_of
from fedkim.aggregation.sorting import sort_rows
from fedkim.aggregation.sums import pieces
from fedkim.errors import FedkimError
from fedkim.state import State, Update, component

# S sites, C coordinates of a piece

Rule = Callable[[Mapping[str, Tensor], Sequence[Mapping[str, Tensor]], Sequence[int]], Mapping[str, Tensor]]
"""``(broadcast tensors, contributors' tensors in site order, their example counts) -> next tensors`` of one component."""

SORTED = 1 << 15
"""Coordinates sorted together: 128 KiB a site in float32."""


def robust(*, name: str, rule: Rule, least: int, too_few: TooFew = "keep") -> Algorithm:
    """An algorithm from a rule for one component.

    Args:
        name: the algorithm's.
        rule: called for each component with at least ``least`` contributors.
        least: contributors below which the rule promises nothing.
        too_few: ``keep`` leaves such a component as it was broadcast; ``mean`` averages it unguarded.
    """
    return Algorithm(name=name, aggregate=_by_component(rule, least, too_few), least=least, too_few=too_few)


def short_of_sites(algorithm: Algorithm, sent: Iterable[Iterable[str]]) -> dict[str, int]:
    """Components of a round with fewer contributors than the algorithm needs, and how many there were.

    Args:
        algorithm: the recipe's.
        sent: the components that each accepted update holds.
    """
    counted = Counter(name for components in sent for name in components)
    return {name: number for name, number in sorted(counted.items()) if number < algorithm.least}


def check_owners(algorithm: Algorithm, owned: Mapping[str, Collection[str]], *, a_round: int) -> None:
    """Refuse at the start what could never be aggregated as promised.

    Args:
        algorithm: the recipe's.
        owned: components by site.
        a_round: sites that take part in one round.

    Raises:
        FedkimError: a component has fewer owners than the rule needs, or a round fewer sites.
    """
    if algorithm.too_few == "mean":
        return
    wants = f"at least {algorithm.least} for algorithm {algorithm.name!r}"
    remedy = 'lower federation.byzantine, choose another algorithm, or average unguarded: federation.too_few = "mean"'
    if a_round < algorithm.least:
        raise FedkimError("[federation] sites", found=f"{a_round} in a round", expected=wants, remedy=remedy)
    for name, number in short_of_sites(algorithm, owned.values()).items():
        raise FedkimError(f"component {name!r}", found=f"{number} sites that own it", expected=wants, remedy=remedy)


# coordinate by coordinate -----------------------------------------------------------------------------------------


def median(*, byzantine: int = 1, too_few: TooFew = "keep") -> Algorithm:
    """The median of each coordinate (Yin et al. 2018, arXiv 1803.01498); of an even number, the mean of the middle two.

    Every coordinate lies between honest values as long as fewer than half of the contributors lie: n ≥ 2f + 1.
    """
    return robust(name="median", rule=coordinate_median, least=2 * byzantine + 1, too_few=too_few)


def trimmed_mean(*, trim_share: float = 0.2, byzantine: int = 1, too_few: TooFew = "keep") -> Algorithm:
    """The mean of each coordinate without the ⌊β·n⌋ smallest and as many of the largest values (Yin et al. 2018).

    It holds against as many liars as are cut at one end, so n must be so large that ⌊β·n⌋ ≥ f.

    Raises:
        FedkimError: a share outside of 0 < β < 0.5.
    """
    if not 0 < trim_share < 0.5:
        raise FedkimError("[federation] trim_share", found=f"{trim_share:g}", expected="above 0 and below 0.5")
    cut = max(1, byzantine)
    least = next(number for number in count(2 * cut + 1) if int(trim_share * number) >= cut)

    def rule(before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> State:
        return coordinate_mean(sent, cut=int(trim_share * len(sent)))

    return robust(name="trimmed-mean", rule=rule, least=least, too_few=too_few)


def coordinate_median(
    before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], counts: Sequence[int]
) -> State:
    """The rule of :func:`median`: all values but the middle one or two are cut."""
    return coordinate_mean(sent, cut=(len(sent) - 1) // 2)


def coordinate_mean(sent: Sequence[Mapping[str, Tensor]], *, cut: int) -> State:
    """Each coordinate's mean without its ``cut`` smallest and ``cut`` largest values; memory O(sites × piece).

    Args:
        sent: S mappings with the same keys, shapes and types; values without NaN.
        cut: 2·cut < S.
    """
    return State({key: _cut_mean([tensors[key] for tensors in sent], cut) for key in sent[0]})


def _cut_mean(tensors: Sequence[Tensor], cut: int) -> Tensor:
    like = tensors[0]
    result = torch.empty_like(like, memory_format=torch.contiguous_format)
    flat, sources = result.view(-1), [tensor.reshape(-1) for tensor in tensors]
    kept = len(tensors) - 2 * cut
    assert kept > 0
    memory = torch.empty(len(tensors) + 1, min(SORTED, flat.numel()), dtype=like.dtype)
    total = torch.empty(memory.shape[1], dtype=torch.float64)
    for piece in pieces(flat.numel(), SORTED):
        *rows_SC, spare_C = memory[:, : piece.stop - piece.start]
        for row, source in zip(rows_SC, sources, strict=True):
            row.copy_(source[piece])
        sum_C = total[: piece.stop - piece.start].zero_()
        for row in sort_rows(rows_SC, spare_C)[cut : cut + kept]:
            sum_C.add_(row)
        sum_C.div_(kept)
        flat[piece] = sum_C if like.is_floating_point() else sum_C.round_()
    return result


def _by_component(rule: Rule, least: int, too_few: TooFew) -> Aggregate:
    def aggregate(previous: State, updates: Sequence[Update], memory: Memory) -> tuple[State, Memory]:
        following: dict[str, Tensor] = {}
        for name, senders in contributors(updates).items():
            if len(senders) >= least:
                keys = [key for key in senders[0].state if component(key) == name]
                following.update(
                    rule(
                        {key: previous[key] for key in keys},
                        [{key: update.state[key] for key in keys} for update in senders],
                        [update.num_examples[name] for update in senders],
                    )
                )
            elif too_few == "mean":
                following.update(mean_of(name, senders))
        return previous.updated(following), memory

    return aggregate
