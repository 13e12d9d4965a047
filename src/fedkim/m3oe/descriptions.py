"""Plain-English descriptions into the language model's own frozen input embeddings."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError

Description = str | Tensor
"""A text, or its embeddings [L, E]."""
Modalities = str | Tensor | Sequence[str] | None
"""The description of one sample's modalities: a text, embeddings, several texts read one after another, or none."""


class DescriptionReader:
    """Texts → embeddings [L, E] on the embedding's device, without gradient: nothing of it is trained."""

    def __init__(self) -> None:
        self._own_tokenizer: Any = None

    def embed(self, model: nn.Module, description: Modalities, tokenizer: Any = None) -> Tensor | None:
        """Embeddings of one description, None for none; the tokenizer is the model's own unless given."""
        if description is None or isinstance(description, Tensor):
            return description
        text = description if isinstance(description, str) else " ".join(description)
        if not text.strip():
            return None
        tokenizer = tokenizer or self._beside(model)
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        with torch.no_grad():
            return embedding(tokens.to(embedding.weight.device))

    def _beside(self, model: nn.Module) -> Any:
        """The tokenizer saved with the language model, loaded once."""
        if self._own_tokenizer is None:
            from transformers import AutoTokenizer

            name = getattr(model, "name_or_path", "")
            if not name:
                raise FedkimError(
                    "the model doesn't say where its tokenizer lies",
                    remedy="pass tokenizer=, or embeddings instead of text",
                )
            self._own_tokenizer = AutoTokenizer.from_pretrained(name)
        return self._own_tokenizer
