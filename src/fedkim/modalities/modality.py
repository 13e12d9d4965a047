"""The Modality record: everything that site and server must agree on about one kind of input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EncoderFactory = Callable[[tuple[int, ...], int, int], nn.Module]
"""``(input_shape, width, tokens) -> module`` mapping ``[B, *input_shape]`` to ``[B, tokens, width]``."""


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of input, with the preprocessing and encoders that sites and server share (so they can't drift apart)."""

    name: str
    description: str
    """Plain English; the router's M (the paper's "modality description")."""
    tokens: int = 0
    """How many tokens its encoder pools to; 0 for text, which enters through the LLM's own embedding."""
    encoders: Mapping[str, EncoderFactory]
    """Encoder makers by the name a recipe uses; the first is the default."""
    preprocessing: int = 1
    """Version of what turns a file into the encoder's input: raised whenever that tensor changes, so that an exported
    encoder is never fed by another preprocessing than it was trained with."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Training-time augmentation of a batch ``[B, ...]``; None: the batch as it is."""
