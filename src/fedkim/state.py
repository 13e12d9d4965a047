"""State: the named tensors that travel between sites and server, and Update: what a site sends."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from fedkim.errors import FedkimError

_tensors_of = safetensors_torch.load
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,255}")

Penalty = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""``(parameters, reference) -> scalar``: what an algorithm adds to a site's loss in every step; named here, where both find it."""

LONGEST_HEADER = 1 << 20
"""Bytes that names, shapes and types of a message may take."""
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names of the types."""


def _no_safetensors() -> FedkimError:
    """A new one each time: an error's traceback holds on to the message."""
    return FedkimError("a message", found="something else", expected="safetensors")


def component(key: str) -> str:
    """The unit of ownership and of averaging: ``"encoder.image.conv1.weight"`` belongs to ``"encoder.image"``."""
    return ".".join(key.split(".")[:2])


class State(Mapping[str, Tensor]):
    """Ordered, detached, contiguous CPU tensors by name; keys ``encoder.<modality>.…``, ``decoder.<task>.…`` (a site's), ``adapter.…`` and others (the server's).

    Keys are sorted, so that two states with the same content have the same bytes and the same digest. A State is a
    value: nothing in the package changes its tensors in place.

    Raises:
        FedkimError: a key that is not a plain dotted name.
    """

    def __init__(self, tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = ()):
        items = tensors.items() if isinstance(tensors, Mapping) else tensors
        self._tensors: dict[str, Tensor] = {}
        self._digest = ""
        for key, tensor in sorted(items, key=lambda item: item[0]):
            if not _KEY.fullmatch(key) or ".." in key:
                raise FedkimError(
                    "a tensor's name", found=f"{key[:40]!r}", expected="letters, digits, '_', '-' and single dots"
                )
            self._tensors[key] = tensor.detach().cpu().contiguous()

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def components(self) -> tuple[str, ...]:
        """The components present, sorted."""
        return tuple(sorted({component(key) for key in self}))

    def slice(self, components: Iterable[str]) -> "State":
        """The part that belongs to ``components``: what one site receives and sends."""
        wanted = set(components)
        if wanted.issuperset(self.components()):
            return self
        return State({key: tensor for key, tensor in self.items() if component(key) in wanted})

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under ``prefix + "."`` with the prefix taken off, ready for ``load_state_dict``."""
        start = prefix + "."
        return {key[len(start) :]: tensor for key, tensor in self.items() if key.startswith(start)}

    @classmethod
    def joined(cls, spaces: Mapping[str, Mapping[str, Tensor]]) -> "State":
        """Tensors of several namespaces as one: ``{"a": {"w": …}}`` gives ``a.w``; :meth:`below` takes them apart."""
        return cls({f"{space}.{key}": tensor for space, named in spaces.items() for key, tensor in named.items()})

    def updated(self, other: Mapping[str, Tensor]) -> "State":
        """This state with the tensors of ``other`` in place of, or beside, its own."""
        return State({**self._tensors, **other})

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors alone."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.values())

    def to_bytes(self) -> bytes:
        """The state as one safetensors byte string (deterministic: equal states, equal bytes)."""
        return safetensors_torch.save(self._tensors)

    @classmethod
    def from_bytes(cls, data: bytes, *, expected: "State | None" = None) -> "State":
        """The inverse of :meth:`to_bytes`.

        Args:
            data: safetensors, perhaps from another institution.
            expected: names, shapes and types that the header must announce; compared before a tensor is allocated.

        Raises:
            FedkimError: no safetensors, or not what is expected.
        """
        announced = _announced(data)
        if expected is not None:
            wanted = {key: (_NAMES[tensor.dtype], tuple(tensor.shape)) for key, tensor in expected.items()}
            if announced != wanted:
                differing = sum(announced.get(key) != wanted.get(key) for key in {*announced, *wanted})
                raise FedkimError(
                    "a message's tensors",
                    found=f"{differing} of other names, shapes or types",
                    expected=f"the {len(wanted)} that were asked for",
                )
        try:
            return cls(_tensors_of(data))
        except Exception:  # the reader's own, and what Python makes of odd headers
            raise _no_safetensors() from None

    @classmethod
    def from_file(cls, path: Path) -> "State":
        """Read a safetensors file.

        Raises:
            FedkimError: the file is missing, or is no safetensors file.
        """
        try:
            return cls(safetensors_torch.load_file(path))
        except FileNotFoundError:
            raise FedkimError(f"weights file {path}", found="no such file", remedy="check the path") from None
        except Exception as error:
            raise FedkimError(
                f"weights file {path}", found=f"unreadable ({type(error).__name__})", expected="a safetensors file"
            ) from None

    def digest(self) -> str:
        """sha256 over names, shapes, types and bytes: equal digests mean bit-identical weights. Computed once: a State is a value."""
        if self._digest:
            return self._digest
        hasher = hashlib.sha256()
        for key, tensor in self.items():
            hasher.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
            hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        self._digest = hasher.hexdigest()
        return self._digest


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to ``path``, the inverse of :meth:`State.from_file`.

    Raises:
        OSError: no room on the disk, with the system's error number.
    """
    try:
        safetensors_torch.save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:  # hides the system's error number in its text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code)) from None


def _announced(data: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape by name, as a safetensors header says; nothing else of the data is looked at."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(LONGEST_HEADER, len(data) - 8):
        raise _no_safetensors()
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return {str(key): (str(entry["dtype"]), tuple(map(int, entry["shape"]))) for key, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise _no_safetensors() from None


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a site sends after its local training, and all that it sends."""

    site: str
    round: int
    base_digest: str
    """Digest of the slice the site started from."""
    state: State
    num_examples: Mapping[str, int]
    """Per component: distinct private samples with that modality and a label that trains it (encoders), labelled samples (decoders)."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Aggregates only: mean losses by task, number of steps, seconds."""
