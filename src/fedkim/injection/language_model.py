"""LanguageModel: a frozen causal language model with its tokenizer, whatever its family.

Shapes: V vocabulary, H hidden size.

What differs between families is settled here, once: Gemma multiplies its embeddings by √H, Qwen's tokenizer has no BOS,
SentencePiece puts a space in front of every text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError

_ROWS = 4096
"""Embeddings looked at together: the norms of a large vocabulary need no second copy of it."""


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model with its tokenizer."""

    name: str
    model: nn.Module
    """Without dropout from here on: nothing of it trains, and its masks would be drawn from torch's global generator."""
    tokenizer: Any
    identity: Mapping[str, str] = field(default_factory=dict)
    """Digests of its folder (:func:`~fedkim.injection.checkpoint.identity`); empty where it has none."""

    def __post_init__(self) -> None:
        for part in self.model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            for name, value in vars(part).items():  # rates that a family hands to functional dropout; never a module
                if "drop" in name and isinstance(value, float):
                    setattr(part, name, 0.0)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The compute type of the frozen weights."""
        return next(self.model.parameters()).dtype

    @property
    def hidden_size(self) -> int:
        """Width H of the embedding space."""
        return int(self.embedding.weight.shape[1])

    @property
    def embedding(self) -> nn.Embedding:
        """EMB_F, the frozen input embedding: what it gives is what ``inputs_embeds`` expects."""
        return self.model.get_input_embeddings()  # type: ignore[operator]

    def embedding_norm(self) -> float:
        """Mean norm of the vocabulary's embeddings as they enter the first layer (of Gemma's: the scaled ones)."""
        with torch.no_grad():
            rows = torch.arange(self.embedding.weight.shape[0], device=self.device).split(_ROWS)
            return float(torch.cat([self.embedding(ids).float().norm(dim=1) for ids in rows]).mean())

    @property
    def begin_token(self) -> int:
        """BOS: the tokenizer's, else what the model's configuration calls so (Qwen's end of text), else EOS."""
        config = getattr(self.model, "config", None)
        known = (self.tokenizer.bos_token_id, getattr(config, "bos_token_id", None), self.tokenizer.eos_token_id)
        return int(next(token for token in known if token is not None))

    @property
    def end_token(self) -> int:
        """EOS: trained at the end of an answer, never scored."""
        return int(self.tokenizer.eos_token_id)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_after(self, before: str, text: str) -> list[int]:
        """Token ids of a text as it reads after another, without special tokens.

        A tokenizer may begin every text with a space of its own; in the middle of a line that would be one too many.
        """
        start, whole = self.encode(before), self.encode(before + text)
        return whole[len(start) :] if whole[: len(start)] == start else self.encode(text)

    def embed(self, text: str) -> Tensor:
        """EMB_F(text): ``[tokens, H]``, frozen, float32."""
        ids = torch.tensor(self.encode(text), device=self.device)
        with torch.no_grad():
            return self.embedding(ids).float()


def check_tokenizer(llm: LanguageModel) -> None:
    """Refuse a tokenizer that the model can't take: of the model, only the shape of its embedding is looked at.

    A special token beyond the embedding is let pass, for no plain text becomes one: Gemma 3's text models have such a one, for images.

    Raises:
        FedkimError: no end of text, tokens without an embedding, BOS or EOS among them.
    """
    what, tokenizer, rows = f"language model {llm.name!r}", llm.tokenizer, int(llm.embedding.weight.shape[0])
    if tokenizer.eos_token_id is None:
        raise FedkimError(what, found="a tokenizer without an end of text (eos_token)")
    for role, token in (("BOS", llm.begin_token), ("EOS", llm.end_token)):
        if not 0 <= token < rows:
            raise FedkimError(what, found=f"{role} {token}", expected=f"a token among its {rows} embeddings")
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = [number for number in tokenizer.get_vocab().values() if number >= rows and number not in special]
    if beyond:
        raise FedkimError(
            what,
            found=f"a tokenizer with {len(beyond)} tokens beyond the model's {rows} embeddings",
            expected="an embedding for each",
            remedy="take the tokenizer that belongs to the model",
        )
