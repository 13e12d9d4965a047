"""A language model's folder before anything of it is loaded: what can be, what can't and why, and which weights it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError

LAYOUT = "a folder in the Hugging Face layout, with safetensors and tokenizer"
_TOKENIZER = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "*.model",
    "*.tiktoken",
)
_BESIDE_ONE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CUTS_NOTHING = ("transformers_version", "chat_template", "name_or_path", "is_local", "local_files_only")


def check_folder(folder: Path) -> None:
    """Refuse what can't be a frozen text model here, by its ``config.json`` alone and before anything heavy is read.

    Raises:
        FedkimError: no ``config.json`` or none that can be read, an adapter beside the model, InternLM2's own layout, a family that
            needs code of its own, a model that also sees or hears, a family that doesn't continue texts.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    what = named(folder)
    if (folder / "adapter_config.json").is_file():  # the loader would put it on the model, and no digest would know
        raise FedkimError(
            what,
            found="an adapter (adapter_config.json)",
            expected="a model alone",
            remedy="merge the adapter into the model first",
        )
    config = read_config(folder)
    if config is None:
        raise _without_config(folder, what)
    family, architectures = str(config.get("model_type")), config.get("architectures") or []
    if family in ("internlm", "internlm2") or "InternLM2ForCausalLM" in architectures:
        raise FedkimError(
            what,
            found="InternLM's own layout, which needs code from its authors",
            expected="the Llama layout",
            remedy=f"fedkim llm convert {folder} --to DIR, then llm.name = DIR (docs/mmedlm2.md)",
        )
    if family not in CONFIG_MAPPING:
        raise FedkimError(
            what,
            found=f"model_type {family!r}",
            expected="a family that transformers knows: code that comes with weights is never run",
        )
    if "text_config" in config:
        raise FedkimError(
            what,
            found=f"{family!r}, which also sees or hears",
            expected="a language model for text alone",
            remedy="take the family's text checkpoint",
        )
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or config.get("is_encoder_decoder"):
        raise FedkimError(
            what,
            found=f"{family!r}, which doesn't continue a text",
            expected="a causal language model, such as Llama, Qwen or Gemma",
        )


def named(folder: Path | str) -> str:
    """A language model's folder as errors call it."""
    return f"language model folder {str(folder)!r}"


def _without_config(folder: Path, what: str) -> FedkimError:
    if (folder / "config.json").is_file():
        return FedkimError(what, found="a config.json that is no JSON object", remedy="fetch it again")
    other = next(folder.glob("*.gguf"), None)
    found = f"{other.name}, a GGUF file, and no config.json" if other else "no config.json"
    return FedkimError(what, found=found, expected=LAYOUT)


def read_config(folder: Path) -> dict[str, Any] | None:
    """What ``config.json`` says; None where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def identity(folder: Path) -> dict[str, str]:
    """Which model a folder holds, as a run's environment remembers it: digests of weights and, where there is one, tokenizer."""
    tokenizer = tokenizer_digest(folder)
    return {"language_model": weights_digest(folder), **({"tokenizer": tokenizer} if tokenizer else {})}


def tokenizer_digest(folder: Path) -> str:
    """The first half of a sha256 over the files that decide how a text is cut; empty where there is none.

    Beside a ``tokenizer.json`` nothing else is read that has a vocabulary, so what else a copy holds doesn't count.
    """
    files = sorted(path for pattern in _TOKENIZER for path in folder.glob(pattern) if path.is_file())
    if (folder / "tokenizer.json").is_file():
        files = [path for path in files if path.name in _BESIDE_ONE]
    if not files:
        return ""
    hasher = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        if path.name == "tokenizer_config.json":
            content = _decisive(content)
        hasher.update(f"{path.name} {len(content)} ".encode() + content)
    return hasher.hexdigest()[:32]


def _decisive(content: bytes) -> bytes:
    """A tokenizer's configuration without what cuts no text: it may be written anew by another version."""
    try:
        config = json.loads(content)
        kept = {key: value for key, value in config.items() if key not in _CUTS_NOTHING}
    except (ValueError, AttributeError):
        return content
    return json.dumps(kept, sort_keys=True).encode()


def weights_digest(folder: Path) -> str:
    """The first half of a sha256 over a folder's architecture and a sample of its weights, in a moment for any size.

    Of each safetensors file the size, the first 64 KiB (names, shapes and types stand there) and 256 pieces of 4 KiB, evenly
    spread: who trains a model on or converts it in another way changes more than what lies between.
    """
    config = {key: value for key, value in (read_config(folder) or {}).items() if key != "transformers_version"}
    hasher = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        hasher.update(f"{path.name} {size} ".encode())
        with open(path, "rb") as file:
            hasher.update(file.read(1 << 16))
            for piece in range(256):
                file.seek(piece * size // 256)
                hasher.update(file.read(1 << 12))
    return hasher.hexdigest()[:32]
