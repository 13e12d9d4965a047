"""Plug-ins: modules that a recipe names, imported for what they add to the registries."""

import importlib
from collections.abc import Iterable

from fedkim.errors import FedkimError


def import_plugins(modules: Iterable[str]) -> None:
    """Import each module once, in order.

    Raises:
        FedkimError: a module that can't be found or that fails; the message names it.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise FedkimError(
                f"plug-in {name!r}",
                found=f"{type(error).__name__} on import ({error})".replace("\n", " "),
                expected="an importable module",
                remedy="install it, or put its folder on PYTHONPATH",
            ) from error
