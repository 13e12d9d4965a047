"""The tensor cache: what was decoded once is memory-mapped ever after.

One safetensors file per entry in ``$FEDKIM_CACHE/tensors``, named by a key over the contents of the source files and of the
modules that prepare them: a changed file or rule makes a new entry and never finds the old one. Facts that belong to
the tensors (ids, labels) travel in the same file as JSON, so both are there or neither is. A file that is cut short or
whose bytes don't match their checksum is thrown away and built again.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedkim.errors import FedkimError

FORMAT = "fedkim-cache-1"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the cache keeps together."""

    tensors: Mapping[str, Tensor]
    """By name; after a cache hit they are views into a memory-mapped file."""
    facts: Any = field(default_factory=dict)
    """Anything JSON holds: ids, labels, counts."""


def cache_folder() -> Path:
    """``$FEDKIM_CACHE``, by default ``fedkim`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if root := os.environ.get("FEDKIM_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedkim"


def content_key(files: Iterable[Path], *facts: object, rules: Iterable[ModuleType] = ()) -> str:
    """SHA-256 over what an entry is made from.

    Args:
        files: sources; their names and bytes count, in this order.
        facts: settings, such as an image size or a seed.
        rules: the modules that do the preparation; their source text is the preprocessing's version, so that nobody
            has to remember to raise a number.

    Raises:
        FedkimError: a file is missing or unreadable.
    """
    digest = hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode())
    for file in [*files, *(Path(str(rule.__file__)) for rule in rules)]:
        try:
            content = hashlib.sha256(file.read_bytes()).digest()
        except FileNotFoundError:
            raise FedkimError(f"file {file}", found="no such file", remedy="put it back") from None
        except OSError as error:
            found = f"unreadable ({type(error).__name__})"
            raise FedkimError(f"file {file}", found=found, remedy="fix its permissions") from None
        digest.update(file.name.encode() + b"\0" + content)
    return digest.hexdigest()


def cached(name: str, key: str, build: Callable[[], Entry]) -> Entry:
    """The entry ``name`` under ``key``, from the cache if it's whole there, else from ``build()`` and then kept.

    The file is written under another name and moved into place, so that a reader never sees half of one, and two
    processes that build the same entry end with the same contents.

    Args:
        name: a word or two for whoever looks into the folder, such as ``"nih-images"``.
        key: from :func:`content_key`.
        build: makes the entry; runs only when needed.

    Raises:
        FedkimError: the cache folder can't be written.
    """
    path = _path(name, key)
    entry = _read(path, key)
    if entry is None:
        _write(path, key, build())
        entry = _read(path, key)
        if entry is None:
            raise FedkimError(
                f"cache file {path}", found="damaged right after writing", remedy="check the disk, or set FEDKIM_CACHE"
            )
    return entry


def find(name: str, key: str) -> Entry | None:
    """The entry ``name`` under ``key`` if it's whole in the cache; a damaged one is removed."""
    return _read(_path(name, key), key)


def _path(name: str, key: str) -> Path:
    return cache_folder() / "tensors" / f"{name}-{key[:32]}.safetensors"


def _read(path: Path, key: str) -> Entry | None:
    """The entry, or None where it is absent or damaged (a damaged file is removed)."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError):
        path.unlink(missing_ok=True)
        return None
    facts = header.get("facts", "")
    if (header.get("format"), header.get("key")) != (FORMAT, key) or header.get("checksum") != _checksum(
        tensors, facts
    ):
        path.unlink(missing_ok=True)
        return None
    return Entry(tensors=tensors, facts=json.loads(facts))


def _write(path: Path, key: str, entry: Entry) -> None:
    tensors = {name: tensor.detach().contiguous() for name, tensor in entry.tensors.items()}
    facts = json.dumps(entry.facts)
    header = {"format": FORMAT, "key": key, "facts": facts, "checksum": _checksum(tensors, facts)}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=".safetensors")  # mode 0600
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata=header)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        remedy = "make room there, or set FEDKIM_CACHE to a folder you can write"
        raise FedkimError(f"cache folder {path.parent}", found=type(error).__name__, remedy=remedy) from None


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
