"""The output layer in float32: a bfloat16 model rounds its logits to steps of a sixteenth, and answers that differ by less tie."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from fedkim.m3oe.linear import product_in_float32


@contextmanager
def precise_head(model: nn.Module) -> Iterator[None]:
    """Inside the block the model's logits come from its last hidden states in float32; nothing else changes.

    Args:
        model: a causal language model of transformers, with adapters or without. One whose output layer is quantised, or
            float32 already, is left as it is.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    layer = getattr(head, "base_layer", head)
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point() or layer.weight.element_size() != 2:
        yield
        return
    handle = layer.register_forward_hook(lambda layer, given, rounded: _in_float32(layer, given[0]))
    try:
        yield
    finally:
        handle.remove()


def _in_float32(layer: nn.Linear, hidden: Tensor) -> Tensor:
    logits = product_in_float32(hidden, layer.weight)
    return logits if layer.bias is None else logits + layer.bias.float()
