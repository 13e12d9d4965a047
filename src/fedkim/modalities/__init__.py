"""Modalities: one record and one file each, shared by site and server."""

from fedkim.errors import unknown
from fedkim.modalities.image import IMAGE
from fedkim.modalities.modality import Modality
from fedkim.modalities.series import SERIES
from fedkim.modalities.signal import SIGNAL
from fedkim.modalities.text import TEXT

MODALITIES: dict[str, Modality] = {modality.name: modality for modality in (IMAGE, SIGNAL, *SERIES, TEXT)}
"""By name, in prompt order. Open: add your own record."""


def describe(modalities: tuple[str, ...]) -> str:
    """The router's M for a set of modalities: their names, text first, and what each is.

    ``("image",)`` gives the image's own description; ``("image", "text")`` begins ``"Text and image. …"``.

    Raises:
        FedkimError: a name that isn't registered.
    """
    for name in modalities:
        if name not in MODALITIES:
            raise unknown("modality", name, MODALITIES)
    ordered = sorted(modalities, key=lambda name: (name != "text", list(MODALITIES).index(name)))
    sentences = " ".join(MODALITIES[name].description for name in ordered)
    if len(ordered) < 2:
        return sentences
    names = f"{', '.join(ordered[:-1])} and {ordered[-1]}"
    return f"{names.capitalize()}. {sentences}"


__all__ = ["MODALITIES", "Modality", "describe"]
