"""Fingerprints: the same picture or wave found again under another name, in another file format, in another data set.

Everything is compared in its canonical form, as a model would see it: exposure, gain, bit depth and sampling rate are
gone by then, so a film at 1024 × 1024 as DICOM and the same film at 299 × 299 as PNG are nearly one tensor.

Two steps. Equal tensors are found by their sha256. Of the rest, a *sketch* (coarse and short) finds who might be alike,
by one matrix product; whoever is gets compared in detail. Two films of two people agree in the coarse (a chest is a chest),
and a film and its copy in the fine too: that is what the second threshold asks. For waves it is the whole ten seconds.

The thresholds lie between what was measured on re-encoded copies and on films of different patients
(``tests/data/test_fingerprints.py``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional

# N inputs, D numbers in a sketch, E numbers in a detail

SIDE = 64
"""Pixels to which pictures are brought before they are compared."""
COARSE = 16
"""Frequencies a side that make a picture's sketch."""
CHUNK = 2048
"""Sketches compared at once."""
OBSERVED = 24
"""Values other than zero that a table of intensive care needs before equal content means anything."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How two inputs of a kind are compared: limits on cosines between sketches and between details."""

    coarse: float
    fine: float


LIKENESS = {"image": Likeness(coarse=0.99, fine=0.96), "signal": Likeness(coarse=0.9, fine=0.985)}
"""By modality. Others are compared by their bytes alone."""


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Two inputs that are one."""

    first: int
    second: int
    """Positions, ``first < second``."""
    exact: bool
    """Equal to the last bit once prepared; otherwise alike."""


def find_duplicates(tensors: Sequence[Tensor], modality: str) -> list[Duplicate]:
    """Pairs that are the same thing: of exact copies each with the first of its kind, of inputs that are alike every pair.

    Args:
        tensors: canonical inputs of one modality; shapes may differ, and only equal shapes are compared in detail.
        modality: says how.
    """
    first_with: dict[str, int] = {}
    pairs: list[Duplicate] = []
    alone: list[int] = []
    for position, tensor in enumerate(tensors):
        if modality not in LIKENESS and int(tensor.count_nonzero()) < OBSERVED:
            continue  # empty tables are alike and say nothing
        first = first_with.setdefault(digest(tensor), position)
        if first != position:
            pairs.append(Duplicate(first=first, second=position, exact=True))
        else:
            alone.append(position)
    if modality in LIKENESS:
        shapes: dict[tuple[int, ...], list[int]] = {}
        for position in alone:
            shapes.setdefault(tuple(tensors[position].shape), []).append(position)
        for members in shapes.values():
            pairs += _alike([tensors[position] for position in members], members, modality)
    return sorted(pairs, key=lambda pair: (pair.second, pair.first))


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's shape and bytes."""
    array = tensor.contiguous().numpy()
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def likeness(first: Tensor, second: Tensor, modality: str) -> tuple[float, float]:
    """The coarse and the fine cosine between two inputs of one modality and shape."""
    sketches, details = _sketches([first, second], modality), _details([first, second], modality)
    return float(sketches[0] @ sketches[1]), float(details[0] @ details[1])


def _alike(tensors: Sequence[Tensor], positions: Sequence[int], modality: str) -> list[Duplicate]:
    limits = LIKENESS[modality]
    sketches_ND = np.concatenate(
        [_sketches(tensors[at : at + CHUNK], modality) for at in range(0, len(tensors), CHUNK)]
    )
    pairs = []
    for at in range(0, len(tensors), CHUNK):
        for row in range(0, at + CHUNK, CHUNK):  # everything before this chunk, and itself
            close = sketches_ND[row : row + CHUNK] @ sketches_ND[at : at + CHUNK].T >= limits.coarse
            for first, second in zip(*np.nonzero(close)):
                one, other = row + int(first), at + int(second)
                if one >= other:
                    continue
                details = _details([tensors[one], tensors[other]], modality)
                if float(details[0] @ details[1]) >= limits.fine:
                    pairs.append(Duplicate(first=positions[one], second=positions[other], exact=False))
    return pairs


def _sketches(tensors: Sequence[Tensor], modality: str) -> np.ndarray:
    """``[N, D]`` of length 1."""
    if modality == "image":
        frequencies = dctn(_pictures(tensors), axes=(1, 2), norm="ortho")[:, :COARSE, :COARSE]
        flat = frequencies.reshape(len(tensors), -1)[:, 1:]  # the mean says nothing
    else:
        waves = torch.stack(list(tensors))
        lead = waves[:, min(1, waves.shape[1] - 1)]  # II, the rhythm lead of twelve
        flat = functional.avg_pool1d(lead[:, None], 4)[:, 0].numpy()  # 25 a second
        flat = flat - flat.mean(axis=1, keepdims=True)
    return _unit(flat)


def _details(tensors: Sequence[Tensor], modality: str) -> np.ndarray:
    """``[N, E]`` of length 1: a picture without what a blur leaves of it, a wave as it is."""
    if modality == "image":
        spectrum = dctn(_pictures(tensors), axes=(1, 2), norm="ortho")
        spectrum[:, : COARSE // 2, : COARSE // 2] = 0
        return _unit((spectrum * _middle()).reshape(len(tensors), -1))
    waves = torch.stack(list(tensors))
    return _unit((waves - waves.mean(dim=2, keepdim=True)).flatten(1).numpy())


@cache
def _middle() -> np.ndarray:
    """``[SIDE, SIDE]``: 1 for frequencies that outlive JPEG and resizing (the lower half), else 0."""
    keep = np.zeros((SIDE, SIDE), dtype=np.float32)
    keep[: SIDE // 2, : SIDE // 2] = 1
    return keep


def _pictures(tensors: Sequence[Tensor]) -> np.ndarray:
    """``[N, SIDE, SIDE]``."""
    pictures = torch.stack(list(tensors))[:, :1].float()
    if pictures.shape[-2:] != (SIDE, SIDE):
        pictures = functional.interpolate(pictures, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return pictures[:, 0].numpy()


def _unit(flat: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return (flat / np.maximum(lengths, 1e-12)).astype(np.float32)
