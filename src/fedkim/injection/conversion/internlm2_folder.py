"""An InternLM2 folder as published (MMedLM-2 is one) into a Llama folder that needs nobody's code.

Tensors pass one by one, so a checkpoint of 15 GB needs the memory of one file written (a gibibyte) and one tensor.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fedkim import __version__
from fedkim.errors import FedkimError
from fedkim.injection.checkpoint import read_config
from fedkim.injection.conversion.folder import appearing
from fedkim.injection.conversion.internlm2 import InternLM2, llama_config
from fedkim.injection.conversion.shards import (
    SHARD_BYTES,
    ShardWriter,
    safetensors_files,
    stored_shapes,
    stored_tensors,
)
from fedkim.injection.conversion.tokenizer import write_tokenizer
from fedkim.progress import Progress, Silent

RECORD = "conversion.json"
SCRIPT = "scripts/pickles_to_safetensors.py"
_IGNORED = ".rotary_emb.inv_freq"
"""Some checkpoints store it; it follows from the configuration."""
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Others are quantised: without their scales, which Llama's layout has no place for, they are other numbers."""


def convert_internlm2(
    source: Path,
    target: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Path:
    """Write ``source`` in the Llama layout to ``target``, with a tokenizer and a record of where it came from.

    Everything is checked by the files' headers before the first tensor is read; the folder appears when it is whole.

    Args:
        source: a folder with ``config.json``, safetensors and ``tokenizer.model`` as InternLM2's authors publish them.
        target: a folder that doesn't exist yet.
        shard_bytes: the most one written file holds.
        progress: told of every file of the source.

    Raises:
        FedkimError: the target exists; pickles instead of safetensors; another architecture; missing, unknown or
            misshapen tensors; damaged files; no tokenizer.
    """
    from transformers import LlamaConfig

    if target.exists():
        raise FedkimError(f"--to {target}", found="it exists", expected="a new folder", remedy="name another")
    if not source.is_dir():
        raise FedkimError(f"folder {source}", found="no such folder", remedy="check the path")
    config = read_config(source)
    if config is None:
        raise FedkimError(f"folder {source}", found="no config.json", expected="a published checkpoint")
    files = _weights(source)
    shapes = {file: stored_shapes(file) for file in files}
    sizes = _checked(source, config, shapes)
    settings = llama_config(config, sizes)
    record: dict[str, Any] = {
        "fedkim": __version__,
        "layout": {"from": "internlm2", "to": "llama"},
        "source": source.resolve().name,
        "config": config,
        "files": {},
    }
    with _told(target), appearing(target) as scratch:
        types: set[str] = set()
        stage = (progress or Silent()).stage("files", len(files))
        with stage as read, ShardWriter(scratch, shard_bytes) as writer:
            for file in files:
                record["files"][file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
                for name, tensor in stored_tensors(file):
                    if name.endswith(_IGNORED):
                        continue
                    if tensor.dtype not in _TYPES:
                        raise FedkimError(
                            f"tensor {name}",
                            found=f"{tensor.dtype}, a quantised weight",
                            expected="float16, bfloat16 or float32",
                        )
                    types.add(str(tensor.dtype).removeprefix("torch."))
                    for new, piece in sizes.to_llama(name, tensor):
                        writer.add(new, piece)
                read.advance()
        dtype = types.pop() if len(types) == 1 else "float32"
        _write_config(LlamaConfig, {**settings, "architectures": ["LlamaForCausalLM"], "dtype": dtype}, scratch)
        write_tokenizer(source, scratch, vocabulary=sizes.vocabulary)
        for beside in ("generation_config.json", *(path.name for path in source.glob("LICENSE*"))):
            if (source / beside).is_file():
                shutil.copyfile(source / beside, scratch / beside)
        record["bytes"] = writer.total
        (scratch / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return target


def _write_config(family: Any, settings: Mapping[str, Any], folder: Path) -> None:
    try:
        family(**settings).save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the library checks every key, with errors of its own
        raise FedkimError("config.json", found=" ".join(str(error).split())[:200]) from None


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """What the system says against writing, as one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # a full disk is either, depending on who writes
        found = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FedkimError(
            f"--to {target}", found=found, remedy="name a folder that can be written, with room"
        ) from None


def _weights(source: Path) -> list[Path]:
    files = safetensors_files(source)
    if files:
        return files
    pickles = sorted(source.glob("*.bin"))
    if pickles:
        raise FedkimError(
            f"folder {source}",
            found=f"{len(pickles)} pickled files ({pickles[0].name}), which could run code",
            expected="safetensors",
            remedy=f"run {SCRIPT} {source} DIR in an environment of its own first (docs/mmedlm2.md)",
        )
    raise FedkimError(f"folder {source}", found="no weights", expected="safetensors files")


def _checked(
    source: Path, config: Mapping[str, Any], shapes: Mapping[Path, Mapping[str, tuple[int, ...]]]
) -> InternLM2:
    """Sizes by the configuration, once every tensor is known to be there in its shape, and nothing else."""
    if config.get("quantization_config"):
        raise FedkimError(
            "config.json",
            found="quantization_config, quantised weights",
            expected="float16, bfloat16 or float32",
            remedy="take the checkpoint that isn't quantised",
        )
    found = {name: shape for file in shapes.values() for name, shape in file.items() if not name.endswith(_IGNORED)}
    if not any(name.endswith("attention.wqkv.weight") for name in found):
        said = ", ".join([str(config.get("model_type")), *_strings(config.get("architectures"))])
        raise FedkimError(
            f"folder {source}", found=f"another layout ({said})", expected="InternLM2's, with attention.wqkv"
        )
    biased = any(name.endswith("attention.wqkv.bias") for name in found)
    sizes = InternLM2.from_config({"bias": biased, **config})
    expected = sizes.shapes()
    missing, foreign = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    for names, word in ((missing, "missing"), (foreign, "that the layout doesn't have")):
        if names:
            raise FedkimError(
                f"folder {source}",
                found=f"{len(names)} tensors {word}, such as {names[0]}",
                expected=f"the {len(expected)} of its config.json",
            )
    for name, shape in expected.items():
        if found[name] != shape:
            raise FedkimError(
                f"tensor {name}", found=f"shape {list(found[name])}", expected=f"{list(shape)} by config.json"
            )
    return sizes


def _strings(value: Any) -> Sequence[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
