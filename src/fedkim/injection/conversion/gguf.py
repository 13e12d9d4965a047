"""A packaged GGUF model, converted once to a folder of safetensors in the cache."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from fedkim.errors import FedkimError
from fedkim.injection.conversion.folder import appearing_once

_HEAD = 1 << 20
"""Bytes of a file that, with its size, tell it from another."""


def convert_gguf(source: Path, folder: Path) -> Path:
    """Read ``source`` and write weights (float32) and tokenizer to ``folder``; a finished folder is used as it is.

    Two processes may convert at once.

    Raises:
        FedkimError: the GGUF file is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from fedkim.injection.llms import quiet_transformers

    if not source.is_file():
        raise FedkimError(f"model file {source.name}", found="no such file", remedy="reinstall its package")
    folder = folder.with_name(f"{folder.name}-{_fingerprint(source)}")
    if (folder / "model.safetensors").is_file():
        return folder
    with quiet_transformers(), _quiet_bars(), appearing_once(folder, "model.safetensors") as scratch:
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(scratch)
    return folder


def _fingerprint(source: Path) -> str:
    """Size and first megabyte name the content without reading all of it."""
    with source.open("rb") as file:
        head = file.read(_HEAD)
    return hashlib.sha256(str(source.stat().st_size).encode() + head).hexdigest()[:12]


@contextmanager
def _quiet_bars() -> Iterator[None]:
    """Send the bars of the GGUF reader nowhere: a terminal shows our own progress."""
    import tqdm.auto  # type: ignore[import-untyped]
    import transformers.modeling_gguf_pytorch_utils as reader

    original = reader.tqdm
    reader.tqdm = partial(tqdm.auto.tqdm, disable=True)
    try:
        yield
    finally:
        reader.tqdm = original
