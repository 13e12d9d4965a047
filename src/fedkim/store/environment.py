"""What else decides the last bits of a run: kept with every round, compared on resume."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedkim import __version__
from fedkim.errors import FedkimError

_DECISIVE = ("threads", "device", "dtype")


def environment(**resolved: str | int) -> dict[str, Any]:
    """The machine and libraries of this process; ``resolved`` adds what the run chose (device, dtype)."""
    return {
        "fedkim": __version__,
        "code": code_digest(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **resolved,
    }


@cache
def code_digest() -> str:
    """The first half of a sha256 over the package's own modules: between releases the version says too little."""
    package = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:32]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what both know and what isn't equal."""
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])


def refuse_other_bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume where the numbers would change without anybody noticing.

    Raises:
        FedkimError: other threads, device or dtype than the rounds already there.
    """
    for name in differences(before, now):
        if name in _DECISIVE:
            raise FedkimError(
                f"resuming with another {name}",
                found=str(now[name]),
                expected=f"{before[name]}, as in the rounds already there",
                remedy=f"set run.{name}, or start anew with --force",
            )
