"""The clipped mean: FedAvg in which no site can move a component far, whatever its weights, or own it, whatever its count."""

import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedkim.aggregation.algorithms import Algorithm, TooFew
from fedkim.aggregation.robust import robust
from fedkim.aggregation.sums import PIECE, pieces, weighted_sum
from fedkim.errors import FedkimError
from fedkim.state import State


def clipped_mean(
    *, clip_factor: float = 2.0, site_share: float = 0.5, byzantine: int = 1, too_few: TooFew = "keep"
) -> Algorithm:
    """θ + Σ_n w_n·min(1, k·M/‖Δ_n‖)·Δ_n with Δ_n = θ_n − θ and M the median of the contributors' ‖Δ_n‖, per component.

    w_n ∝ examples, but at most ``site_share`` (:func:`capped_shares`). M is an honest site's or smaller as long as fewer than
    half lie: n ≥ 2f + 1. f liars then move the component by at most f·c·k·M: a bound on the harm, not its absence.
    Norm clipping after Sun et al. 2019 (arXiv 1911.07963).

    Raises:
        FedkimError: a factor below 1, or a share outside of (0, 1].
    """
    if clip_factor < 1:
        raise FedkimError("[federation] clip_factor", found=f"{clip_factor:g}", expected="at least 1")
    if not 0 < site_share <= 1:
        raise FedkimError("[federation] site_share", found=f"{site_share:g}", expected="above 0 and at most 1")

    def rule(before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> State:
        norms = [distance(before, tensors) for tensors in sent]
        most = clip_factor * statistics.median(norms)
        scales = [1.0 if norm <= most else most / norm for norm in norms]
        weights = [share * scale for share, scale in zip(capped_shares(counts, site_share), scales, strict=True)]
        return State(
            {key: weighted_sum([tensors[key] for tensors in sent], weights, origin=before[key]) for key in before}
        )

    return robust(name="clipped-mean", rule=rule, least=2 * byzantine + 1, too_few=too_few)


def capped_shares(counts: Sequence[int], most: float) -> list[float]:
    """Shares ∝ ``counts`` that sum to 1, none above ``most``; what a capped site loses goes to the others in proportion.

    If ``most`` is below 1/n no shares can be so small, and all are 1/n.
    """
    number = len(counts)
    if most * number <= 1:
        return [1 / number] * number
    capped: set[int] = set()
    while True:
        left, total = 1 - most * len(capped), sum(count for index, count in enumerate(counts) if index not in capped)
        shares = [most if index in capped else left * count / total for index, count in enumerate(counts)]
        over = {index for index, share in enumerate(shares) if share > most}
        if not over:
            return shares
        capped |= over


def distance(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """‖after − before‖ over all floating tensors, in float64, a piece at a time."""
    total = 0.0
    for key, origin in before.items():
        if not origin.is_floating_point():
            continue
        start, end = origin.reshape(-1), after[key].reshape(-1)
        for piece in pieces(start.numel(), PIECE):
            moved = end[piece].to(torch.float64) - start[piece]
            total += float(moved.dot(moved))
    return total**0.5
