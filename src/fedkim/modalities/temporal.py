"""A Transformer over the hours of a series: attention looks from hour to hour, never from patient to patient."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import Parameter


class TimeAttention(nn.Module):
    """Multi-head self-attention over the second axis of ``[B, T, width]``.

    Written as two linear maps around torch's scaled dot-product attention: libraries for differential privacy
    refuse the fused ``nn.MultiheadAttention``, and its batch-second default invites mixing patients.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        query, key, value = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)  # [B, heads, T, width / heads]
        return self.merge(mixed.transpose(1, 2).flatten(2))


class TimeLayer(nn.Module):
    """One pre-norm Transformer layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = TimeAttention(width, heads)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, then transform each hour."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.narrow(functional.relu(self.widen(self.norm_feed(x))))


class TemporalTransformer(nn.Module):
    """Two layers over the hours, averaged over equal spans of the day: ``[B, T, 2F] → [B, tokens, width]``."""

    def __init__(self, input_shape: tuple[int, ...], width: int, tokens: int):
        super().__init__()
        hours, features = input_shape
        inner = width // 2  # at full width the four groups of a stay would cost most of a round
        self.embed = nn.Linear(features, inner)
        self.position = Parameter(torch.empty(hours, inner))
        self.layers = nn.ModuleList(TimeLayer(inner, heads=2) for _ in range(2))
        self.pool = nn.AdaptiveAvgPool1d(tokens)
        self.project = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, series: Tensor) -> Tensor:
        """Encode a batch."""
        hidden = self.embed(series) + self.position
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(self.project(self.pool(hidden.transpose(1, 2)).transpose(1, 2)))
