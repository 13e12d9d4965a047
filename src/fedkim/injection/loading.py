"""A language model by its name, folder or hub id: loaded frozen onto a device, or looked at without its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError
from fedkim.injection.attention import use_float32_attention
from fedkim.injection.checkpoint import check_folder, identity, named, tokenizer_digest
from fedkim.injection.folders import find_folder
from fedkim.injection.language_model import LanguageModel, check_tokenizer
from fedkim.injection.llms import LLMS
from fedkim.injection.quiet import quiet_transformers
from fedkim.injection.weights import check_weights, holds_weights, refuse_incomplete, refuse_nonfinite
from fedkim.m3oe.linear import cpu_computes_bfloat16, use_rounded_linear


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
