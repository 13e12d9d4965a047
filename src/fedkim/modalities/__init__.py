"""Modalities: one record and one file each, shared by site and server."""

from fedkim.modalities.modality import Modality

MODALITIES: dict[str, Modality] = {}
"""By name, in prompt order. Open: add your own record."""

__all__ = ["MODALITIES", "Modality"]
