"""Engines: ways to carry a broadcast to the sites and their updates back; everything else lives outside them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedkim.engines.inprocess import InProcess, participants

__all__ = ["InProcess", "participants"]


def __getattr__(name: str) -> Any:
    """Import on first use: the process that Flower starts for every message forwards bytes and needs no torch."""
    if name in __all__:
        from fedkim.engines import inprocess

        return getattr(inprocess, name)
    raise AttributeError(f"module 'fedkim.engines' has no attribute {name!r}")
