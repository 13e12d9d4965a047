"""Krum and multi-Krum: believe the sites whose update lies closest to most others' (Blanchard et al. 2017, arXiv 1703.02757)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedkim.aggregation.algorithms import Algorithm, TooFew
from fedkim.aggregation.robust import robust
from fedkim.aggregation.sums import pieces, weighted_sum
from fedkim.state import State

# S sites, C coordinates of a piece

COMPARED = 1 << 15
"""Coordinates compared together: 256 KiB a site in float64."""


def krum(*, byzantine: int = 1, too_few: TooFew = "keep") -> Algorithm:
    """The one update with the lowest score, component by component; needs n ≥ 2f + 3 contributors."""

    def rule(before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> State:
        (best,) = closest(before, sent, byzantine=byzantine, number=1)
        return State(sent[best])

    return robust(name="krum", rule=rule, least=2 * byzantine + 3, too_few=too_few)


def multi_krum(*, byzantine: int = 1, selected: int = 0, too_few: TooFew = "keep") -> Algorithm:
    """The plain mean of the m updates with the lowest scores; needs n ≥ 2f + 3 contributors.

    m is ``selected``, and at most n − f − 2, beyond which a liar could be among them; 0 takes that many.
    """

    def rule(before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], counts: Sequence[int]) -> State:
        most = len(sent) - byzantine - 2
        chosen = closest(before, sent, byzantine=byzantine, number=min(selected, most) if selected else most)
        weights = [1 / len(chosen)] * len(chosen)
        return State({key: weighted_sum([sent[index][key] for index in sorted(chosen)], weights) for key in before})

    return robust(name="multi-krum", rule=rule, least=2 * byzantine + 3, too_few=too_few)


def closest(
    before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]], *, byzantine: int, number: int
) -> list[int]:
    """Positions of the ``number`` updates with the lowest scores, best first; ties go to the earlier site.

    An update's score is the sum of its squared distances to its n − f − 2 nearest neighbours.
    """
    distances_SS = squared_distances(before, sent)
    near = max(1, len(sent) - byzantine - 2)
    scores: list[float] = []
    for index, row_S in enumerate(distances_SS.tolist()):
        others = sorted(distance for other, distance in enumerate(row_S) if other != index)
        scores.append(sum(others[:near]))
    return sorted(range(len(sent)), key=lambda index: (scores[index], index))[:number]


def squared_distances(before: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """‖θ_i − θ_j‖² over all floating tensors, [S, S] in float64; memory O(S × piece).

    From the Gram matrix of the differences to the broadcast, which are small: about zero, ‖x‖² + ‖y‖² − 2x·y would cancel,
    and about the sites' mean one huge update would drown the distances between all others.
    """
    gram_SS = torch.zeros(len(sent), len(sent), dtype=torch.float64)
    for key, origin in before.items():
        if not origin.is_floating_point():
            continue
        base, rows = origin.reshape(-1), [tensors[key].reshape(-1) for tensors in sent]
        memory = torch.empty(len(sent), min(COMPARED, base.numel()), dtype=torch.float64)
        for piece in pieces(base.numel(), COMPARED):
            moved_SC = memory[:, : piece.stop - piece.start]
            start_C = base[piece].to(torch.float64)
            for moved_C, row in zip(moved_SC, rows, strict=True):
                moved_C.copy_(row[piece]).sub_(start_C)
            gram_SS.addmm_(moved_SC, moved_SC.T)
    norms_S = gram_SS.diagonal()
    return (norms_S[:, None] + norms_S[None, :] - 2 * gram_SS).clamp_(min=0.0)
