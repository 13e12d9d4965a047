"""Randomness as a pure function of what it is for, so that a resumed run and every engine draw the same numbers."""

import hashlib

import numpy as np
import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from the run's seed and a purpose such as ``(site, round, "batches")``.

    No generator lives longer than the purpose it was made for, so there is no state to save: the same purpose
    gives the same numbers in a fresh process.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by :func:`seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def numpy_generator_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """The numpy twin of :func:`generator_for`."""
    return np.random.default_rng(seed_for(seed, *purpose))
