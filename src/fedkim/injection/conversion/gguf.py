"""A packaged GGUF model, converted once to a folder of safetensors in the cache."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from fedkim.errors import FedkimError
from fedkim.injection.conversion.folder import appearing_once
from fedkim.injection.quiet import quiet_transformers

_RULES = 1
"""Rises with every change of what is written from the same file."""


def convert_gguf(source: Path, folder: Path) -> Path:
    """Read ``source`` and write weights (float32) and tokenizer to ``folder``; a finished folder is used as it is.

    Two processes may convert at once.

    Raises:
        FedkimError: the GGUF file is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

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
    """Of the whole content: the first megabytes of a GGUF file are its tokenizer, so that weights need looking at."""
    with source.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"{content} {_RULES}".encode()).hexdigest()[:12]


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
