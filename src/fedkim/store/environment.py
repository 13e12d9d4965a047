"""What else decides the last bits of a run: kept with every round, compared on resume."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedkim import __version__
from fedkim.errors import FedkimError
from fedkim.recipe import plugin_digests

_ELSEWHERE = "resume or evaluate it where those were made, or run the recipe into another folder"
_DECISIVE = {
    "threads": "set run.threads, or start anew with --force",
    "device": _ELSEWHERE,  # what auto stood for can't be set afterwards: device and dtype are part of the recipe
    "dtype": _ELSEWHERE,
}
"""What may not change within a run, and what to do instead."""


def environment(plugins: Iterable[str] = (), **resolved: str | int) -> dict[str, Any]:
    """The machine and libraries of this process, the code of imported ``plugins``; ``resolved`` adds what the run chose (device, dtype, language model)."""
    return {
        "fedkim": __version__,
        "code": code_digest(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **resolved,
        **({"plugins": digests} if (digests := plugin_digests(plugins)) else {}),
    }


@cache
def code_digest() -> str:
    """The first half of a sha256 over the package's own modules: between releases the version says too little."""
    package = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:32]


def require_same_plugins(before: Mapping[str, str], now: Mapping[str, str], what: str, remedy: str) -> None:
    """Refuse what other code of a plug-in has made: a recipe names the plug-in and says nothing of its code.

    Args:
        before: digests by plug-in, as the environment of the rounds or result already there has them.
        now: those of the plug-ins as this process has imported them.
        what: the rounds or result, for the message.
        remedy: what to do instead.

    Raises:
        FedkimError: a plug-in that both know has changed.
    """
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            found = f"made with other code of the plug-in {name!r} than it has now"
            raise FedkimError(what, found=found, remedy=remedy)


def require_same_model(before: Mapping[str, Any], now: Mapping[str, Any], what: str, remedy: str) -> None:
    """Refuse what belongs to another language model or tokenizer: a recipe names a folder or a model and says nothing of what is in it.

    Args:
        before: the environment of the rounds or result already there.
        now: the digests of the model's weights and tokenizer under the same names; what isn't known is absent.
        what: the rounds or result, for the message.
        remedy: what to do instead.

    Raises:
        FedkimError: both know one of the two, and it differs.
    """
    for key, made_with in (("language_model", "other weights"), ("tokenizer", "another tokenizer")):
        if before.get(key) and now.get(key) and before[key] != now[key]:
            raise FedkimError(what, found=f"made with {made_with} than llm.name stands for now", remedy=remedy)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what both know and what isn't equal."""
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])


def refuse_other_bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume where the numbers would change without anybody noticing.

    Raises:
        FedkimError: other threads, device, dtype, weights or tokenizer of the language model or code of a plug-in than the rounds
            already there.
    """
    made, own = (one.get("plugins", {}) for one in (before, now))
    require_same_plugins(made, own, "the rounds already there", "start anew with --force, or undo the change")
    remedy = "put its files back, or run the recipe into another folder"
    require_same_model(before, now, "the rounds already there", remedy)
    for name in differences(before, now):
        if name in _DECISIVE:
            raise FedkimError(
                f"resuming with another {name}",
                found=str(now[name]),
                expected=f"{before[name]}, as in the rounds already there",
                remedy=_DECISIVE[name],
            )
