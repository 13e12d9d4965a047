"""Rendering: factors of one kind as canonical tensors, through the same preprocessing as real data, kept in the cache."""

import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from fedkim.data.cache import Entry, cached, content_key
from fedkim.data.phantom import factors as causes
from fedkim.data.phantom import picture, stay, wave
from fedkim.data.phantom.factors import CHUNK, Factors
from fedkim.data.phantom.settings import GENERATOR_VERSION, PhantomSettings
from fedkim.modalities import concepts, image, series, signal, signal_files
from fedkim.modalities import picture as pictures
from fedkim.modalities.concepts import CONCEPTS
from fedkim.parallel import ordered_map
from fedkim.randomness import numpy_generator_for

RULES = (causes, concepts, image, picture, pictures, series, signal, signal_files, stay, wave, sys.modules[__name__])
"""Modules that decide what is cached."""

# B patients of a chunk

Rendered = dict[str, Tensor]
"""By modality ``[B, …]``; by ``raw.<fact>`` a scalar a patient of the rendering before preprocessing, ``[B]``."""


def render(factors: Factors, settings: PhantomSettings, count: int) -> Mapping[str, Tensor]:
    """The canonical tensors of the first ``count`` patients by modality, memory-mapped from the cache.

    They depend on the seed and on sizes, not on ρ: severities are rendered, and ρ only says which labels they carry.
    """
    kind = factors.kind
    size = settings.image_size if kind == "image" else 0
    facts = ("phantom", GENERATOR_VERSION, kind, settings.seed, settings.num_sites, size, count)
    key = content_key((), *facts, rules=RULES)

    def build() -> Entry:
        make = _MAKERS[kind]

        def chunk(index: int) -> Rendered:
            random = numpy_generator_for(settings.seed, "phantom", kind, "rendering", index)
            return make(factors.chunk(index), random, settings.image_size)

        parts = list(ordered_map(chunk, range(-(-count // CHUNK)), settings.workers))
        return Entry(tensors={name: torch.cat([part[name] for part in parts])[:count].clone() for name in parts[0]})

    return cached(f"phantom-{kind}", key, build).tensors if count else {}


def _pictures(factors: Factors, random: np.random.Generator, size: int) -> Rendered:
    pixels = picture.render(factors, random, size)
    return {
        "image": torch.stack([image.prepare(one, size) for one in pixels]),
        "raw.mean": torch.from_numpy(pixels.mean(axis=(1, 2))),
        "raw.deviation": torch.from_numpy(pixels.std(axis=(1, 2))),
    }


def _waves(factors: Factors, random: np.random.Generator, size: int) -> Rendered:
    leads, rate = wave.render(factors, random)
    return {
        "signal": torch.stack([signal.prepare(one, signal.SAMPLING_RATE) for one in leads]),
        "raw.deviation": torch.from_numpy(leads.std(axis=(1, 2))),
        "raw.rate": torch.from_numpy(rate),
    }


def _stays(factors: Factors, random: np.random.Generator, size: int) -> Rendered:
    rendered: Rendered = {}
    for modality, values in stay.render(factors, random).items():
        num, hours, width = values.shape
        # the preprocessing of one stay takes [24, F]; all stays of the chunk stand side by side as more columns
        beside = values.transpose(1, 0, 2).reshape(hours, num * width).astype(np.float64)
        prepared = series.prepare_values(beside, CONCEPTS[modality] * num)
        parts = prepared.view(hours, 2, num, width)
        rendered[modality] = parts.permute(2, 0, 1, 3).reshape(num, hours, 2 * width)
    return rendered


_MAKERS: dict[str, Callable[[Factors, np.random.Generator, int], Rendered]] = {
    "image": _pictures,
    "signal": _waves,
    "icu": _stays,
}
