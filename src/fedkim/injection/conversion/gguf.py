"""A packaged GGUF model, converted once to a folder of safetensors in the cache."""

import hashlib
from pathlib import Path

import torch

from fedkim.errors import FedkimError
from fedkim.injection.conversion.folder import appearing_once

_SMOLLM2_BYTES = 1 << 20


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
        head = file.read(_SMOLLM2_BYTES)
    return hashlib.sha256(str(source.stat().st_size).encode() + head).hexdigest()[:12]


class _quiet_bars:  # noqa: N801 - reads as a statement
    """tqdm bars of the GGUF reader go nowhere: a terminal shows our own progress."""

    def __enter__(self) -> None:
        import functools

        import tqdm.auto  # type: ignore[import-untyped]
        import transformers.modeling_gguf_pytorch_utils as reader

        self._reader, self._original = reader, reader.tqdm
        reader.tqdm = functools.partial(tqdm.auto.tqdm, disable=True)

    def __exit__(self, *_: object) -> None:
        self._reader.tqdm = self._original
