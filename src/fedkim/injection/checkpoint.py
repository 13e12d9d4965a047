"""A language model's folder before anything of it is loaded: what can be, what can't and why, and which weights it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError


def check_folder(folder: Path) -> None:
    """Refuse what can't be a frozen text model here, by its ``config.json`` alone and before anything heavy is read.

    Raises:
        FedkimError: InternLM2's own layout, a family that needs code of its own, a model that also sees or hears.
    """
    from transformers import CONFIG_MAPPING

    config = read_config(folder)
    if config is None:
        return  # the loader says so in its own words
    family, architectures = str(config.get("model_type")), config.get("architectures") or []
    what = f"language model folder {str(folder)!r}"
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


def read_config(folder: Path) -> dict[str, Any] | None:
    """What ``config.json`` says; None where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


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
