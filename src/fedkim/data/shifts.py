"""Shifts: what makes one hospital's data look unlike another's, laid over its inputs.

A recipe names them by site, ``[federation] shifts = { site-2 = ["scanner-gamma", "ecg-hum"] }``; they apply in that order, to
the site's private inputs alone, and never touch a label. Whatever is a device's habit (a gamma curve, an order of leads) is drawn
once for the site, whatever is chance (noise, a phase) once for each sample; both are functions of the run's seed and of names,
so the order of samples and sites doesn't matter.

They work on canonical inputs: each acts where the device would, then the modality's standardisation is applied again, so what a
model sees is what it would see had the file been shifted before it was read.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError, unknown
from fedkim.modalities.series import CONCEPTS, prepare_values
from fedkim.modalities.units import CONVERSIONS
from fedkim.randomness import generator_for

Device = Callable[[torch.Generator, tuple[int, ...]], Callable[[Tensor, torch.Generator], Tensor]]
"""``(site's generator, input shape) -> (input, sample's generator) -> input``."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One way in which sites differ."""

    name: str
    modality: str
    contents: str
    """What it stands for, in a sentence."""
    device: Device


SHIFTS: dict[str, Shift] = {}
"""By the name a recipe uses. Open: add your own."""


def shifted(shard: Dataset, names: Sequence[str], *, site: str, seed: int) -> Dataset:
    """A site's data under its shifts; samples without the modality stay as they are.

    Raises:
        FedkimError: an unknown shift.
    """
    for name in names:
        if name not in SHIFTS:
            raise unknown("shift", name, SHIFTS)
    samples = list(shard)
    for name in names:
        shift = SHIFTS[name]
        shapes = sorted({tuple(s.inputs[shift.modality].shape) for s in samples if shift.modality in s.inputs})
        devices = {shape: shift.device(generator_for(seed, "shift", site, name), shape) for shape in shapes}
        for index, sample in enumerate(samples):
            given = sample.inputs.get(shift.modality)
            if given is not None:
                chance = generator_for(seed, "shift", site, name, sample.id)
                changed = devices[tuple(given.shape)](given.clone(), chance)
                samples[index] = replace(sample, inputs={**sample.inputs, shift.modality: changed})
    return Dataset(samples, name=shard.name, synthetic=shard.synthetic)


def check_shifts(shifts: Mapping[str, Sequence[str]], sites: Iterable[str]) -> None:
    """Refuse sites and shifts that don't exist.

    Raises:
        FedkimError: names the nearest.
    """
    for site, names in shifts.items():
        if site not in set(sites):
            raise unknown("site in [federation] shifts:", site, sites)
        for name in names:
            if name not in SHIFTS:
                raise unknown(f"shift of {site!r} in [federation] shifts:", name, SHIFTS)


def _between(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))


# scanners -------------------------------------------------------------------------------------------------------------


def _picture(picture: Tensor) -> Tensor:
    """Standardised anew."""
    return (picture - picture.mean()) / picture.std(correction=0).clamp_min(1e-6)


def _gamma(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    strong = _between(1.2, 1.5, random)
    exponent = strong if float(torch.rand((), generator=random)) < 0.5 else 1 / strong

    def apply(picture: Tensor, chance: torch.Generator) -> Tensor:
        low, high = picture.min(), picture.max()
        return _picture(((picture - low) / (high - low).clamp_min(1e-6)) ** exponent)

    return apply


def _window(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    low, high = _between(0.02, 0.15, random), _between(0.8, 0.95, random)

    def apply(picture: Tensor, chance: torch.Generator) -> Tensor:
        return _picture(picture.clamp(picture.quantile(low), picture.quantile(high)))

    return apply


def _noise(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    amount = _between(0.15, 0.4, random)

    def apply(picture: Tensor, chance: torch.Generator) -> Tensor:
        return _picture(picture + amount * torch.randn(picture.shape, generator=chance))

    return apply


def _marker(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    side = max(2, shape[-1] // 10)
    top = int(_between(0, 2, random)) * (shape[-2] - 2 * side) + side // 2
    left = int(_between(0, 2, random)) * (shape[-1] - 2 * side) + side // 2

    def apply(picture: Tensor, chance: torch.Generator) -> Tensor:
        picture[..., top : top + side, left : left + side] = picture.max()
        return _picture(picture)

    return apply


# electrocardiographs --------------------------------------------------------------------------------------------------


def _wave(wave: Tensor) -> Tensor:
    """Standardised anew, as :func:`fedkim.modalities.signal.prepare` does."""
    wave = wave - wave.median(dim=1, keepdim=True).values
    scale = wave.abs().flatten().kthvalue(max(1, round(0.99 * wave.numel()))).values
    return (wave / scale.clamp_min(1e-6)).clamp(-5, 5)


def _rate(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    every = 2 + int(torch.randint(0, 2, (), generator=random))  # 50 or 33 samples a second

    def apply(wave: Tensor, chance: torch.Generator) -> Tensor:
        coarse = functional.avg_pool1d(wave[None], every, ceil_mode=True)
        return _wave(functional.interpolate(coarse, size=wave.shape[1], mode="linear")[0])

    return apply


def _hum(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    amount = _between(0.1, 0.3, random)
    frequency = (50.0, 60.0)[int(torch.randint(0, 2, (), generator=random))]
    # a device without a filter at 100 samples a second folds 60 Hz down to 40; 50 Hz stands at the very edge
    seen = min(frequency, 100 - frequency)

    def apply(wave: Tensor, chance: torch.Generator) -> Tensor:
        phase = _between(0.5, 2.5, chance)  # near 0 a hum at the edge would vanish
        time = torch.arange(wave.shape[1]) / 100
        return _wave(wave + amount * torch.sin(2 * torch.pi * seen * time + phase))

    return apply


def _lead_gain(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    gains = 2 ** (2 * torch.rand(shape[0], 1, generator=random) - 1)
    if shape[0] == 1:
        gains = -gains  # one lead's gain is standardised away: the electrodes are swapped

    def apply(wave: Tensor, chance: torch.Generator) -> Tensor:
        return _wave(wave * gains)

    return apply


def _lead_order(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    if shape[0] < 2:
        raise FedkimError("shift 'ecg-lead-order'", found="a single lead", expected="leads to put in another order")
    start = 1 + int(torch.randint(0, shape[0] - 1, (), generator=random))
    order = torch.roll(torch.arange(shape[0]), start)

    def apply(wave: Tensor, chance: torch.Generator) -> Tensor:
        return wave[order]

    return apply


# intensive care -------------------------------------------------------------------------------------------------------


def _stay(modality: str, change: Callable[[np.ndarray], np.ndarray], table: Tensor) -> Tensor:
    """Measured values back in their units, changed, and prepared anew: what is implausible then counts as not measured."""
    concepts = CONCEPTS[modality]
    filled, observed = table[:, : len(concepts)].double().numpy(), table[:, len(concepts) :].numpy() > 0
    mean, sd = (np.array([getattr(concept, key) for concept in concepts]) for key in ("mean", "sd"))
    raw = filled * sd + mean
    raw = np.where([concept.log for concept in concepts], np.expm1(raw), raw)
    low, high = (np.array([getattr(concept, key) for concept in concepts]) for key in ("low", "high"))
    return prepare_values(change(np.where(observed, np.clip(raw, low, high), np.nan)), concepts)


def _missing_labs(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    number = shape[1] // 2
    never = torch.rand(number, generator=random) < 0.5
    never[int(torch.randint(0, number, (), generator=random))] = True

    def apply(table: Tensor, chance: torch.Generator) -> Tensor:
        return table * (~never).float().repeat(2)

    return apply


def _sparse_vitals(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    every = 2 + int(torch.randint(0, 3, (), generator=random))

    def apply(table: Tensor, chance: torch.Generator) -> Tensor:
        charted = (np.arange(len(table)) % every == 0)[:, None]
        return _stay("vitals", lambda raw: np.where(charted, raw, np.nan), table)

    return apply


_ELSEWHERE = {"crea": "umol/l", "glu": "mmol/l", "bili": "umol/l", "bun": "mmol/l", "hgb": "g/l"}
"""Units of the rest of the world, where YAIB has others."""


def _units(random: torch.Generator, shape: tuple[int, ...]) -> Callable[[Tensor, torch.Generator], Tensor]:
    told = [_ELSEWHERE.get(concept.name) for concept in CONCEPTS["labs"]]
    factors = np.array(
        [1 / CONVERSIONS[c.name][unit].factor if unit else 1.0 for c, unit in zip(CONCEPTS["labs"], told)]
    )

    def apply(table: Tensor, chance: torch.Generator) -> Tensor:
        return _stay("labs", lambda raw: raw * factors, table)

    return apply


for _name, _modality, _contents, _device in (
    ("scanner-gamma", "image", "another curve from dose to grey", _gamma),
    ("scanner-window", "image", "a narrower window: shadows and lights cut off", _window),
    ("scanner-noise", "image", "more noise", _noise),
    ("scanner-marker", "image", "a bright marker burnt into the same corner of every film", _marker),
    ("ecg-rate", "signal", "a slower device: what it misses is gone", _rate),
    ("ecg-hum", "signal", "mains hum of 50 or 60 Hz", _hum),
    ("ecg-lead-gain", "signal", "leads of unequal gain (a single lead: swapped electrodes)", _lead_gain),
    ("ecg-lead-order", "signal", "leads stored in another order", _lead_order),
    ("icu-missing-labs", "labs", "half of the lab values are never measured here", _missing_labs),
    ("icu-sparse-vitals", "vitals", "vital signs charted every two to four hours", _sparse_vitals),
    ("icu-units", "labs", "five lab values in units nobody declared", _units),
):
    SHIFTS[_name] = Shift(name=_name, modality=_modality, contents=_contents, device=_device)
