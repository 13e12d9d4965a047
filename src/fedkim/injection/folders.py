"""Where a language model without a name of ours lies: a local folder, or the local copy of a hub's repository."""

import re
from collections.abc import Iterable
from pathlib import Path

from fedkim.errors import FedkimError, unknown
from fedkim.injection.checkpoint import LAYOUT, named

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FILES = ("*.json", "model*.safetensors", "*.model", "*.txt")
"""What of a repository is fetched: configuration, weights and tokenizer, each once."""


def find_folder(name: str, *, known: Iterable[str], allow_download: bool) -> Path:
    """The folder that ``llm.name`` stands for, if it isn't one of the ``known`` names; a hub's is fetched only if allowed.

    Raises:
        FedkimError: no such name, folder or copy; a file.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        found = "a GGUF file" if path.suffix == ".gguf" else "a file"
        raise FedkimError(f"language model {name!r}", found=found, expected=LAYOUT)
    if "/" not in name:
        raise unknown("language model", name, known)
    if not _HUB_ID.fullmatch(name):
        raise FedkimError(named(name), found="no such folder", remedy="check llm.name")
    return _hub_copy(name, allow_download)


def _hub_copy(name: str, allow_download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES), local_files_only=not allow_download))
    except Exception as error:  # of the hub's client, the network's and the disk's
        if not allow_download:
            found = "no such folder, and no copy of it from the hub"
            remedy = "check the path or id, or set llm.allow_download = true to fetch it from the hub"
            if Path(name).parent.is_dir():  # somebody's folder was moved, rather than nothing fetched yet
                found, remedy = f"no such folder in {Path(name).parent}", "check llm.name"
        elif isinstance(error, LocalEntryNotFoundError):
            found, remedy = (
                "no copy of it here, and a hub that couldn't be reached",
                "check the network, or give a folder",
            )
        else:
            found, remedy = f"nothing that the hub gives ({type(error).__name__})", "check the id, and who may fetch it"
        raise FedkimError(
            f"language model {name!r}", found=found, expected=f"{LAYOUT}, or a hub id", remedy=remedy
        ) from None
