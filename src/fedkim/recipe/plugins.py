"""Plug-ins: modules that a recipe names, imported for what they add to the registries."""

import hashlib
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from fedkim.errors import FedkimError

_DIGESTS: dict[str, str] = {}


def import_plugins(modules: Iterable[str]) -> None:
    """Import each module once, in order.

    Raises:
        FedkimError: a module that can't be found or that fails; the message names it.
    """
    for name in modules:
        fresh = name not in sys.modules
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise FedkimError(
                f"plug-in {name!r}",
                found=f"{type(error).__name__} on import ({error})".replace("\n", " "),
                expected="an importable module",
                remedy="install it, or put its folder on PYTHONPATH",
            ) from error
        if fresh or name not in _DIGESTS:
            _DIGESTS[name] = _digest(name)


def plugin_digests(modules: Iterable[str]) -> dict[str, str]:
    """Of each imported plug-in the sha256 of its code as it was imported: a file that changes afterwards isn't what runs here.

    A package counts with all its modules; what a plug-in imports besides isn't looked at.
    """
    return {name: _DIGESTS[name] for name in modules if _DIGESTS.get(name)}


def _digest(name: str) -> str:
    origin = getattr(sys.modules[name], "__file__", None)
    path = Path(origin or "")
    if not path.is_file():
        return ""  # in an archive, or made by hand
    hasher = hashlib.sha256()
    for part in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
        hasher.update(part.relative_to(path.parent).as_posix().encode() + b"\0" + part.read_bytes())
    return hasher.hexdigest()
