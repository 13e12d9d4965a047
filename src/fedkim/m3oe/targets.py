"""Which layers of a language model carry experts: the family's own, those and the head, or as named."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from fedkim.errors import FedkimError, unknown

_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,  # Qwen2.5 too
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "internlm3": _LLAMA,
    "smollm3": _LLAMA,
    "internlm2": ("wqkv", "wo", "w1", "w2", "w3"),
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}
"""Attention and MLP projections per family, by the configuration's ``model_type``; never the head.

Fused projections (Phi-3, GPT-NeoX, InternLM2) take one adapter whose B has the rows of all of them. Families that
see and hear are left out: their towers have projections of the same names.
"""


def resolve_targets(model: nn.Module, names: tuple[str, ...]) -> list[str]:
    """Names of the layers to adapt: ``("all",)`` the family's, ``("paper",)`` those and the head, else as given.

    Raises:
        FedkimError: a family without a list of layers, a name that no layer has, ``all`` or ``paper`` beside others.
    """
    if names not in (("all",), ("paper",)):
        return _named(model, names)
    family = str(model.config.model_type)  # type: ignore[union-attr]
    if family not in TARGETS:
        raise unknown(f"language model family in [m3oe] targets = {names[0]!r}:", family, TARGETS)
    return [*TARGETS[family]] if names == ("all",) else [*TARGETS[family], head_name(model)]


def _named(model: nn.Module, names: tuple[str, ...]) -> list[str]:
    layers = {key.rsplit(".", 1)[-1] for key, module in model.named_modules() if hasattr(module, "in_features")}
    paths = [key for key, _ in model.named_modules()]
    for name in names:
        if name in ("all", "paper"):
            raise FedkimError(
                "[m3oe] targets", found=f"{name!r} beside others", expected=f"{name!r} alone, or layers' names"
            )
        if not any(is_target(path, [name]) for path in paths):
            raise unknown("layer in [m3oe] targets:", name, sorted(layers))
    return list(names)


def is_target(path: str, targets: Iterable[str]) -> bool:
    """Whether a module's path ends with one of the targets, as PEFT takes them: ``q_proj``, or more of a path, ``mlp.down_proj``."""
    return any(path == name or path.endswith(f".{name}") for name in targets)


def head_name(model: Any) -> str:
    """What the family calls the layer in front of the vocabulary: ``lm_head``, or ``embed_out`` in older GPT-NeoX."""
    head = model.get_output_embeddings()
    return next(name for name, module in model.named_modules() if module is head).rsplit(".", 1)[-1]
