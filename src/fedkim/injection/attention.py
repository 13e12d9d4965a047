"""Attention of a bfloat16 model on a processor: inside, in float32.

torch's bfloat16 attention kernel on a CPU packs its blocks anew for every head; on prompts of a few dozen tokens it is a
tenth of a training step (docs/performance.md). Queries, keys and values are small there, so they are cast.
"""

from typing import Any

from torch import Tensor, nn

NAME = "sdpa_float32"
"""What the language model's configuration calls it."""


def use_float32_attention(model: nn.Module) -> None:
    """Let a model that uses torch's fused attention compute it in float32; other implementations stay as they are."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    config: Any = model.config
    if config._attn_implementation != "sdpa":
        return

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        mixed, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **options
        )
        return mixed.to(query.dtype), weights

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)  # type: ignore[operator]
