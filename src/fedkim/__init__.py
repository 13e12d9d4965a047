"""fedkim: federated knowledge injection into medical language models (FEDKIM, arXiv 2408.10276)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from fedkim.federation import Round
    from fedkim.recipe import Recipe
    from fedkim.run import Answer, Run, federate, load

__all__ = ["Answer", "Recipe", "Round", "Run", "__version__", "federate", "load"]

_HOMES = {
    "Answer": "fedkim.run",
    "Recipe": "fedkim.recipe",
    "Round": "fedkim.federation",
    "Run": "fedkim.run",
    "federate": "fedkim.run",
    "load": "fedkim.run",
}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import fedkim`` alone, and with it the shell, stays free of torch."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fedkim' has no attribute {name!r}")
