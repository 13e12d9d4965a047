"""Weights in several safetensors files: where each tensor lies, and writing such files one after another."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedkim.errors import FedkimError

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 2**30
"""A file is closed before it would grow beyond this: so much, and one tensor, is held in memory."""


def safetensors_files(folder: Path) -> list[Path]:
    """The folder's weights in the order of their names; those of the index where there is one.

    Raises:
        FedkimError: the index names a file that isn't there.
    """
    files = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if not index.is_file():
        return files
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise FedkimError(str(index), found="no index that can be read", remedy="fetch it again") from None
    absent = [name for name in names if folder / name not in files]
    if absent:
        raise FedkimError(
            str(index), found=f"{len(absent)} of {len(names)} files missing, such as {absent[0]}", remedy="fetch them"
        )
    return [folder / name for name in names]


def stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shape by name, from the file's header alone.

    Raises:
        FedkimError: the file is damaged.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError):
        raise FedkimError(str(file), found="a damaged safetensors file", remedy="fetch or convert it again") from None


def stored_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """``(name, tensor)`` one at a time; the file is mapped, so that only what is looked at takes memory."""
    with safe_open(file, framework="pt") as stored:
        for name in stored.keys():  # noqa: SIM118 - no dict
            yield name, stored.get_tensor(name)


class ShardWriter:
    """Collects tensors and writes a file whenever enough have come; the index at the end.

    ::

        with ShardWriter(folder) as writer:
            writer.add("model.norm.weight", tensor)

    Args:
        folder: where the files go.
        shard_bytes: the most a file holds, unless a single tensor is larger.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES):
        self._folder, self._limit = folder, shard_bytes
        self._held: dict[str, Tensor] = {}
        self._files: list[list[str]] = []
        self.total = 0
        """Bytes of all tensors so far."""

    def add(self, name: str, tensor: Tensor) -> None:
        """One more tensor; its memory is free again once its file is written."""
        held = sum(value.nbytes for value in self._held.values())
        if self._held and held + tensor.nbytes > self._limit:
            self._flush()
        self._held[name] = tensor.contiguous()
        self.total += tensor.nbytes

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            return
        self._flush()
        count = len(self._files)
        names = (
            ["model.safetensors"]
            if count == 1
            else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
        )
        for number, name in enumerate(names):
            file = (self._folder / _unfinished(number)).rename(self._folder / name)
            file.chmod(0o644)  # safetensors writes for its owner alone
        if count > 1:
            weights = {tensor: name for name, tensors in zip(names, self._files) for tensor in tensors}
            record = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(weights.items()))}
            (self._folder / INDEX).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _flush(self) -> None:
        save_file(self._held, self._folder / _unfinished(len(self._files)), metadata={"format": "pt"})
        self._files.append(list(self._held))
        self._held = {}


def _unfinished(number: int) -> str:
    """How many files there will be is known at the end."""
    return f"part-{number:05d}"
