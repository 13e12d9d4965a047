"""Tiny random InternLM2 checkpoints in the published layout, and what such a model computes, written plainly.

# T tokens, H hidden, N heads, G key heads, D head_dim
"""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

TOKENIZER = Path(__file__).parent / "injection" / "tokenizers" / "plain.model"
CONFIG = {
    "architectures": ["InternLM2ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_internlm.InternLMConfig",
        "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
    },
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 80,
    "max_position_embeddings": 32,
    "model_type": "internlm2",
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 512,
}


def weights(config: dict = CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the published names, large enough that every part is heard."""
    generator = torch.Generator().manual_seed(seed)
    H, inner, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    D = H // config["num_attention_heads"]
    fused = (config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * D

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(shape[-1])

    tensors = {"model.tok_embeddings.weight": matrix(V, H), "model.norm.weight": 1 + 0.1 * matrix(1, H)[0]}
    if not config["tie_word_embeddings"]:
        tensors["output.weight"] = matrix(V, H)
    for layer in range(config["num_hidden_layers"]):
        block = {
            "attention.wqkv.weight": matrix(fused, H),
            "attention.wo.weight": matrix(H, H),
            "feed_forward.w1.weight": matrix(inner, H),
            "feed_forward.w3.weight": matrix(inner, H),
            "feed_forward.w2.weight": matrix(H, inner),
            "attention_norm.weight": 1 + matrix(1, H)[0],
            "ffn_norm.weight": 1 + matrix(1, H)[0],
        }
        if config["bias"]:
            block |= {"attention.wqkv.bias": matrix(1, fused)[0], "attention.wo.bias": matrix(1, H)[0]}
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in block.items()}
    return tensors


def publish(folder: Path, *, pickled: bool = False, shards: int = 2, tensors: dict | None = None, **changes) -> Path:
    """A folder as the authors publish one: config, weights in several files with an index, ``tokenizer.model``, code."""
    folder.mkdir(parents=True)
    config = CONFIG | changes
    tensors = weights(config) if tensors is None else tensors
    (folder / "config.json").write_text(json.dumps(config))
    names, ending = list(tensors), "bin" if pickled else "safetensors"
    stem = "pytorch_model" if pickled else "model"
    where: dict[str, str] = {}
    for number in range(shards):
        file = f"{stem}-{number + 1:05d}-of-{shards:05d}.{ending}" if shards > 1 else f"{stem}.{ending}"
        part = {name: tensors[name] for name in names[number::shards]}
        where |= dict.fromkeys(part, file)
        torch.save(part, folder / file) if pickled else save_file(part, folder / file, metadata={"format": "pt"})
    if shards > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "InternLM2Tokenizer",
                "auto_map": {"AutoTokenizer": ["tokenization_internlm.InternLM2Tokenizer", None]},
                "bos_token": "<s>",
                "eos_token": "</s>",
                "pad_token": "</s>",
                "unk_token": "<unk>",
            }
        )
    )
    (folder / "modeling_internlm2.py").write_text("raise RuntimeError('code that came with weights was run')\n")
    return folder


def logits(tensors: dict[str, Tensor], config: dict, ids: Tensor) -> Tensor:
    """``[T] -> [T, V]``, one sentence, step by step as the architecture is defined; nothing of transformers.

    RMSNorm, x / sqrt(mean x² + eps) · w, before each part; the fused projection's rows in blocks of one key head (its
    query heads, its key, its value); rotary positions turn the pairs (i, i + D/2); causal softmax attention where each
    group of query heads shares a key and a value; w2(silu(w1 x) · w3 x).
    """
    heads, groups, H = config["num_attention_heads"], config["num_key_value_heads"], config["hidden_size"]
    D, per_group, T = H // heads, heads // groups, len(ids)
    sine, cosine = _rotations(config, T, D)
    x = tensors["model.tok_embeddings.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        own = {
            name.split(".", 3)[3]: value for name, value in tensors.items() if name.startswith(f"model.layers.{layer}.")
        }
        normed = _rms(x, own["attention_norm.weight"], config["rms_norm_eps"])
        fused = normed @ own["attention.wqkv.weight"].T + own.get("attention.wqkv.bias", 0.0)
        attended = torch.zeros(T, H)
        for group in range(groups):
            start = group * (per_group + 2) * D
            block = fused[:, start : start + (per_group + 2) * D]
            key = _turn(block[:, per_group * D : (per_group + 1) * D], sine, cosine)
            value = block[:, (per_group + 1) * D :]
            for member in range(per_group):
                query = _turn(block[:, member * D : (member + 1) * D], sine, cosine)
                closeness = query @ key.T / math.sqrt(D)
                closeness = closeness.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
                head = group * per_group + member
                attended[:, head * D : (head + 1) * D] = closeness.softmax(-1) @ value
        x = x + attended @ own["attention.wo.weight"].T + own.get("attention.wo.bias", 0.0)
        normed = _rms(x, own["ffn_norm.weight"], config["rms_norm_eps"])
        gate, up = normed @ own["feed_forward.w1.weight"].T, normed @ own["feed_forward.w3.weight"].T
        x = x + (gate * gate.sigmoid() * up) @ own["feed_forward.w2.weight"].T
    x = _rms(x, tensors["model.norm.weight"], config["rms_norm_eps"])
    return x @ tensors.get("output.weight", tensors["model.tok_embeddings.weight"]).T


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def _rotations(config: dict, T: int, D: int) -> tuple[Tensor, Tensor]:
    """``[T, D/2]`` each; a linear scaling stretches positions, a dynamic one raises θ once the text is too long."""
    theta, position = float(config["rope_theta"]), torch.arange(T).double()
    scaling = config["rope_scaling"]
    if scaling and scaling["type"] == "linear":
        position = position / scaling["factor"]
    longest = config["max_position_embeddings"]
    if scaling and scaling["type"] == "dynamic" and longest < T:
        theta *= (scaling["factor"] * T / longest - (scaling["factor"] - 1)) ** (D / (D - 2))
    angle = position[:, None] * theta ** (-torch.arange(0, D, 2).double() / D)
    return angle.sin().float(), angle.cos().float()


def _turn(x: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
