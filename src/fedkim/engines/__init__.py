"""Engines: ways to carry a broadcast to the sites and their updates back; everything else lives outside them."""

from fedkim.engines.inprocess import InProcess, participants

__all__ = ["InProcess", "participants"]
