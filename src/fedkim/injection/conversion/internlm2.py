"""InternLM2's published layout, and where each of its tensors goes in Llama's.

The two compute the same function (InternLM2 technical report, arXiv 2403.17297, section "Model Structure"): RMSNorm,
rotary positions, grouped attention, SwiGLU. Only names differ, and that the three projections of attention are one
matrix ``wqkv``, interleaved per group of heads so that it can be cut for tensor parallelism:

    rows of wqkv = [ q q … q k v | q q … q k v | … ]     one block per key head, each letter head_dim rows

# G groups (key heads), S query heads in a group, D head_dim, H hidden size
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedkim.errors import FedkimError

_TOP = {
    "model.tok_embeddings.weight": "model.embed_tokens.weight",
    "model.norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_SCALINGS = ("dynamic", "linear")


@dataclass(frozen=True, kw_only=True)
class InternLM2:
    """The sizes of an InternLM2, read from its ``config.json``."""

    vocabulary: int
    hidden: int
    inner: int
    """Width of the feed-forward part."""
    layers: int
    heads: int
    groups: int
    """Key heads; each serves ``heads / groups`` query heads."""
    head_dim: int
    bias: bool
    """Whether the projections of attention have one; those of the feed-forward part never do."""
    tied: bool
    """Whether the head is the input embedding."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "InternLM2":
        """Sizes from the published keys; ``bias`` is the caller's to add where the file leaves it out.

        Raises:
            FedkimError: a key is absent or the sizes don't divide.
        """
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        missing = [name for name in names if not _is_size(config.get(name))]
        if missing:
            raise FedkimError(
                "config.json", found=f"no number above 0 for {', '.join(missing)}", expected="InternLM2's sizes"
            )
        vocabulary, hidden, inner, layers, heads = (int(config[name]) for name in names)
        groups = config.get("num_key_value_heads") or heads
        if not _is_size(groups):
            raise FedkimError("config.json", found=f"num_key_value_heads {groups!r}", expected="a number above 0")
        if heads % groups or hidden % heads:
            raise FedkimError(
                "config.json",
                found=f"hidden_size {hidden}, {heads} heads, {groups} key heads",
                expected="sizes of which each divides the one before",
            )
        return cls(
            vocabulary=vocabulary,
            hidden=hidden,
            inner=inner,
            layers=layers,
            heads=heads,
            groups=groups,
            head_dim=hidden // heads,
            bias=bool(config["bias"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the published layout by name."""
        H, attention = self.hidden, self.heads * self.head_dim
        fused = (self.heads + 2 * self.groups) * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "model.tok_embeddings.weight": (self.vocabulary, H),
            "model.norm.weight": (H,),
        }
        if not self.tied:
            shapes["output.weight"] = (self.vocabulary, H)
        for number in range(self.layers):
            block = {
                "attention.wqkv.weight": (fused, H),
                "attention.wo.weight": (H, attention),
                "feed_forward.w1.weight": (self.inner, H),
                "feed_forward.w3.weight": (self.inner, H),
                "feed_forward.w2.weight": (H, self.inner),
                "attention_norm.weight": (H,),
                "ffn_norm.weight": (H,),
            }
            if self.bias:
                block |= {"attention.wqkv.bias": (fused,), "attention.wo.bias": (H,)}
            shapes |= {f"model.layers.{number}.{name}": shape for name, shape in block.items()}
        return shapes

    def to_llama(self, name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """One published tensor as Llama's: itself under another name, or ``wqkv`` as three."""
        if name in _TOP:
            yield _TOP[name], tensor
            return
        _, _, number, inner = name.split(".", 3)  # model, layers, 7, attention.wqkv.weight
        part, _, kind = inner.rpartition(".")
        block = f"model.layers.{number}"
        if part != "attention.wqkv":
            yield f"{block}.{_BLOCK[part]}.{kind}", tensor
            return
        query, key, value = self.split(tensor)
        for letter, one in (("q", query), ("k", key), ("v", value)):
            yield f"{block}.self_attn.{letter}_proj.{kind}", one

    def split(self, wqkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[G·(S + 2)·D, …] -> [G·S·D, …], [G·D, …], [G·D, …]``; for the weight and for its bias."""
        blocks = wqkv.unflatten(0, (self.groups, self.heads // self.groups + 2, self.head_dim))
        return blocks[:, :-2].flatten(0, 2), blocks[:, -2].flatten(0, 1), blocks[:, -1].flatten(0, 1)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def llama_config(config: Mapping[str, Any], sizes: InternLM2) -> dict[str, Any]:
    """Keywords of ``LlamaConfig`` that make it compute what the published configuration describes.

    Raises:
        FedkimError: another activation, a scaling of the rotary positions that Llama lacks, a key that holds something
            else than it should.
    """
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise FedkimError("config.json", found=f"hidden_act {activation!r}", expected="'silu'")
    kept = ("initializer_range", "bos_token_id", "eos_token_id")
    return {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.groups,
        "attention_bias": sizes.bias,
        "tie_word_embeddings": sizes.tied,
        "pad_token_id": config.get("pad_token_id"),
        "rope_parameters": _rope(config),
        "max_position_embeddings": int(_number(config, "max_position_embeddings", 2048)),
        "rms_norm_eps": _number(config, "rms_norm_eps", 1e-6),
        **{key: config[key] for key in kept if key in config},
    }


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Both of the published scalings are Llama's by the same formula and name."""
    theta = _number(config, "rope_theta", 10000)
    scaling = config.get("rope_scaling")
    if not scaling:
        return {"rope_type": "default", "rope_theta": theta}
    if not isinstance(scaling, Mapping):
        raise FedkimError("config.json", found=f"rope_scaling {scaling!r}", expected="a table with type and factor")
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind not in _SCALINGS:
        raise FedkimError(
            "config.json", found=f"rope_scaling of type {kind!r}", expected=f"one of {', '.join(_SCALINGS)}"
        )
    return {"rope_type": kind, "rope_theta": theta, "factor": _number(scaling, "factor", 1.0, table="rope_scaling.")}


def _number(config: Mapping[str, Any], key: str, default: float, table: str = "") -> float:
    """A key's number above 0, or what holds where the file leaves it out."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise FedkimError("config.json", found=f"{table}{key} {value!r}", expected="a number above 0")
    return float(value)
