"""The injection's objective: next-token cross-entropy on the answer's tokens.

Shapes: B batch, A answer tokens (EOS included), V vocabulary, K answers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100


def answer_labels(answers: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """``[B, A]`` token ids aligned at the right, where every sequence ends; shorter answers are ignored on their left."""
    longest = max(map(len, answers))
    return torch.tensor([[IGNORED] * (longest - len(ids)) + list(ids) for ids in answers], device=device)


def answer_loss(logits_BAV: Tensor, labels_BA: Tensor) -> Tensor:
    """``[B]``: mean over each sample's valid tokens (the batch's mean over samples is the caller's)."""
    token_loss = functional.cross_entropy(
        logits_BAV.flatten(0, 1), labels_BA.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(labels_BA)
    valid = labels_BA != IGNORED
    return (token_loss * valid).sum(1) / valid.sum(1)


def soft_answer_loss(
    logits_BAV: Tensor, labels_BA: Tensor, first_tokens: Sequence[Tensor], targets: Sequence[Tensor]
) -> Tensor:
    """``[B]``: as :func:`answer_loss`, with the answer's first token drawn from a teacher's distribution over the K answers.

    For single-token answers, where the first position decides; the following EOS stays a hard target.

    Args:
        logits_BAV: as in :func:`answer_loss`.
        labels_BA: as in :func:`answer_loss`.
        first_tokens: of each row, its task's answers as token ids ``[K]``.
        targets: of each row, the teacher's probabilities ``[K]``.
    """
    log_probabilities = logits_BAV[:, 0].log_softmax(-1)
    first = torch.stack(
        [-(target * row[tokens]).sum() for row, tokens, target in zip(log_probabilities, first_tokens, targets)]
    )
    rest = functional.cross_entropy(logits_BAV[:, 1:].flatten(0, 1), labels_BA[:, 1:].flatten(), reduction="none").view(
        len(labels_BA), -1
    )
    return (first + rest.sum(1)) / labels_BA.shape[1]
