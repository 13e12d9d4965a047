"""Feature alignment: g_m carries a modality's encoder tokens into the language model's embedding space.

Shapes: B batch, k tokens of the modality, W encoder width, H the LLM's hidden size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedkim.randomness import generator_for


class Alignment(nn.Module):
    """``e = g(ENC(x))`` between two learned tags: ``<m>, e_1 … e_k, </m>`` (paper: *Feature Alignment*).

    ``center``, ``spread`` and ``emphasis`` are constants in front of g, identity unless :meth:`condition` sets them. g is
    linear and lives on the server, so that sites stay independent of the LLM. Its output passes a LayerNorm
    and is scaled: at first to the mean norm of the LLM's own embeddings, so that a modality's token begins as loud as a word; the
    scale is trained with g.
    """

    center: Tensor
    spread: Tensor
    emphasis: Tensor

    def __init__(self, width: int, hidden_size: int, embedding_norm: float, *, seed: int, modality: str):
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("emphasis", torch.eye(width))
        generator = generator_for(seed, "alignment", modality)
        self.projection = nn.Linear(width, hidden_size)
        self.tags = nn.Parameter(torch.empty(2, hidden_size))
        self.scale = nn.Parameter(torch.tensor(embedding_norm / hidden_size**0.5))
        with torch.no_grad():
            self.projection.weight.normal_(0.0, width**-0.5, generator=generator)
            self.projection.bias.zero_()
            self.tags.normal_(0.0, embedding_norm / hidden_size**0.5, generator=generator)

    def condition(self, features: Tensor, directions: Tensor, gain: float) -> None:
        """Make louder what the aggregated decoders read; g stays linear.

        Channels are centred and scaled by their spread over the public inputs, so that what differs between patients is
        what the language model sees; the span of the decoders' ``directions`` then counts ``1 + gain`` times.

        Args:
            features: of the public inputs, ``[n, k, W]``, n at least 2.
            directions: those of all tasks, ``[D, W]``, in the units of the features.
            gain: how much louder; 0 only centres and scales.
        """
        self.center.copy_(features.flatten(0, 1).mean(0))
        self.spread.copy_(features.mean(1).std(0).clamp_min(1e-3))
        basis = torch.linalg.qr((directions * self.spread).T).Q  # [W, T]
        self.emphasis.copy_(torch.eye(len(basis), device=basis.device) + gain * basis @ basis.T)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, k, W] -> [B, k + 2, H]``."""
        aligned = self.projection(((features - self.center) / self.spread) @ self.emphasis)
        aligned = functional.layer_norm(aligned, aligned.shape[-1:]) * self.scale
        opening, closing = self.tags[:, None, None, :].expand(2, len(aligned), 1, -1)
        return torch.cat([opening, aligned, closing], dim=1)
