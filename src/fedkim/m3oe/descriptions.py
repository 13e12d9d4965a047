"""Plain-English descriptions into the language model's own frozen input embeddings, each distinct text once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError

Description = str | Tensor
"""A text, or its embeddings [L, E]."""
Modalities = str | Tensor | Sequence[str] | None
"""The description of one sample's modalities: a text, embeddings, several texts read one after another, or none."""


class DescriptionBank:
    """Texts → embeddings [L, E] on the embedding's device; a text is embedded once, since nothing of it is trained."""

    def __init__(self) -> None:
        self._known: dict[str, Tensor] = {}

    def embed(self, model: nn.Module, description: Modalities, tokenizer: Any = None) -> Tensor | None:
        """Embeddings of one description; None for none."""
        if description is None or isinstance(description, Tensor):
            return description
        text = description if isinstance(description, str) else " ".join(description)
        if not text.strip():
            return None
        if text not in self._known:
            self._known[text] = _embed(model, text, tokenizer or _own_tokenizer(model))
        return self._known[text]


def _embed(model: nn.Module, text: str, tokenizer: Any) -> Tensor:
    tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    with torch.no_grad():
        return embedding(tokens.to(embedding.weight.device))


def _own_tokenizer(model: nn.Module) -> Any:
    from transformers import AutoTokenizer

    name = getattr(model, "name_or_path", "")
    if not name:
        raise FedkimError(
            "the model doesn't say where its tokenizer lies", remedy="pass tokenizer=, or embeddings instead of text"
        )
    return AutoTokenizer.from_pretrained(name)
