"""Modalities: one record and one file each, shared by site and server."""

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from fedkim.errors import unknown
from fedkim.modalities.image import IMAGE
from fedkim.modalities.modality import Modality
from fedkim.modalities.series import SERIES
from fedkim.modalities.signal import SIGNAL
from fedkim.modalities.text import TEXT

if TYPE_CHECKING:
    from fedkim.tasks import Task

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


def modalities_of(tasks: "Iterable[Task]") -> tuple[str, ...]:
    """The encoded modalities that ``tasks`` need, in prompt order (text is the question and has no encoder).

    Raises:
        FedkimError: a modality that isn't registered.
    """
    needed = set(chain.from_iterable(task.modalities for task in tasks))
    for name in sorted(needed - set(MODALITIES)):
        raise unknown("modality", name, MODALITIES)
    return tuple(name for name, modality in MODALITIES.items() if name in needed and modality.encoders)


__all__ = ["MODALITIES", "Modality", "describe", "modalities_of"]
