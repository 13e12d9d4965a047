r"""The prompt: ``BOS <image> e_image </image> … Question: {question}\nAnswer:`` and then the answer and EOS.

Shapes: B batch, L longest sequence, H hidden size. Sequences are padded on the left, so that every answer ends at the
same place: training reads the last positions, generation appends to them, and the padding changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkim.injection.language_model import LanguageModel


def prompt_text(question: str) -> str:
    """The words around a question."""
    return f"Question: {question}\nAnswer:"


class Tokens:
    """Token ids of prompts and answers, computed once per distinct text."""

    def __init__(self, llm: LanguageModel):
        self._llm = llm
        self._prompts: dict[str, list[int]] = {}
        self._answers: dict[str, list[int]] = {}

    def prompt(self, question: str) -> list[int]:
        """Ids of the question in its frame."""
        if question not in self._prompts:
            self._prompts[question] = self._llm.encode(prompt_text(question))
        return self._prompts[question]

    def answer(self, answer: str) -> list[int]:
        """Ids of the answer as it follows ``Answer:``, without EOS."""
        if answer not in self._answers:
            self._answers[answer] = self._llm.encode_after("Answer:", f" {answer}")
        return self._answers[answer]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A batch as the LLM sees it."""

    embeddings: Tensor
    """``[B, L, H]`` in the LLM's dtype."""
    mask: Tensor | None
    """``[B, L]`` with 0 on padding; None where all rows are equally long (attention is faster without)."""
    positions: Tensor | None
    """``[B, L]`` positions counted from each row's first real token; None with ``mask``."""


def embed_rows(llm: LanguageModel, segments: Sequence[Tensor], tails: Sequence[Sequence[int]]) -> Embedded:
    """Put BOS, the modalities' segments and each row's text together.

    Args:
        llm: for BOS and EMB_F.
        segments: per modality ``[B, k + 2, H]``, in prompt order.
        tails: per row, the token ids after the segments (prompt, and the answer when training).
    """
    longest = max(map(len, tails))
    begin, end = llm.begin_token, llm.end_token
    ids = torch.tensor(
        [[end] * (longest - len(tail)) + [begin] + list(tail) for tail in tails], device=llm.device
    )  # a row's padding, BOS, text
    words = llm.embedding(ids)
    padding = [longest - len(tail) for tail in tails]
    inner = torch.cat([segment.to(words.dtype) for segment in segments], dim=1) if segments else words[:, :0]
    if not any(padding):
        return Embedded(embeddings=torch.cat([words[:, :1], inner, words[:, 1:]], dim=1), mask=None, positions=None)
    rows = [torch.cat([words[row, : pad + 1], inner[row], words[row, pad + 1 :]]) for row, pad in enumerate(padding)]
    embeddings = torch.stack(rows)
    columns = torch.arange(embeddings.shape[1], device=llm.device)
    real = columns[None, :] >= torch.tensor(padding, device=llm.device)[:, None]
    positions = (columns[None, :] - torch.tensor(padding, device=llm.device)[:, None]).clamp_min(0)
    return Embedded(embeddings=embeddings, mask=real.long(), positions=positions)
