"""Known noise for real ECG windows: the four disturbances PTB-XL's annotators name, made from seeded numbers.

Each kind is scaled by the window's own amplitude (the 99th percentile of its absolute value around the median), so that
a weak recording isn't drowned and a strong one isn't spared. The seed is a function of the window's id: a window is
always disturbed in the same way, in whatever order and process it is made.
"""

import numpy as np

from fedkim.errors import unknown
from fedkim.randomness import numpy_generator_for

KINDS = ("static noise", "burst noise", "baseline drift", "electrodes problems")
"""In ECG-QA's words (its attribute column)."""


def add_noise(wave: np.ndarray, sampling_rate: float, kind: str, seed: int, window: str) -> np.ndarray:
    """The wave ``[leads, n]`` with one kind of noise added, in the wave's own unit.

    static noise: mains hum and muscle tremor over the whole window · burst noise: one to three short salvos of strong
    muscle noise · baseline drift: a slow wander below 0.4 Hz · electrodes problems: sudden steps that decay, as of an
    electrode that loses contact.

    Args:
        wave: the clean window.
        sampling_rate: samples a second.
        kind: one of :data:`KINDS`.
        seed: of the data set, not of the run.
        window: the window's id, such as ``"mitbih/100/037"``.
    """
    if kind not in KINDS:
        raise unknown("kind of noise", kind, KINDS)
    generator = numpy_generator_for(seed, "noise", kind, window)
    num = wave.shape[1]
    seconds = np.arange(num) / sampling_rate
    amplitude = np.percentile(np.abs(wave - np.median(wave, axis=1, keepdims=True)), 99)
    shape = _SHAPES[kind](seconds, generator)
    return wave + amplitude * shape[None]


def _static(seconds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    hum = np.sin(2 * np.pi * generator.uniform(35, 45) * seconds + generator.uniform(0, 2 * np.pi))
    return generator.uniform(0.10, 0.20) * hum + generator.uniform(0.10, 0.20) * _tremor(seconds, generator)


def _burst(seconds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    total = np.zeros_like(seconds)
    for _ in range(int(generator.integers(1, 4))):
        centre, width = generator.uniform(1, 9), generator.uniform(0.15, 0.4)
        envelope = np.exp(-0.5 * ((seconds - centre) / width) ** 2)
        total += generator.uniform(0.5, 1.0) * envelope * _tremor(seconds, generator)
    return total


def _drift(seconds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    total = np.zeros_like(seconds)
    for _ in range(2):
        frequency, phase = generator.uniform(0.1, 0.4), generator.uniform(0, 2 * np.pi)
        total += generator.uniform(0.4, 0.8) * np.sin(2 * np.pi * frequency * seconds + phase)
    return total


def _electrode(seconds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    total = np.zeros_like(seconds)
    for _ in range(int(generator.integers(1, 4))):
        start, decay = generator.uniform(0.5, 9), generator.uniform(0.1, 0.5)
        sign = 1.0 if generator.random() < 0.5 else -1.0
        after = seconds >= start
        total[after] += sign * generator.uniform(1.0, 2.0) * np.exp(-(seconds[after] - start) / decay)
    return total


def _tremor(seconds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """White noise of unit variance, smoothed over 10 ms so that it lives below 50 Hz, as muscles do."""
    white = generator.standard_normal(len(seconds))
    width = max(1, round(0.01 / (seconds[1] - seconds[0])))
    smooth = np.convolve(white, np.ones(width) / width, mode="same")
    return smooth / smooth.std()


_SHAPES = {
    "static noise": _static,
    "burst noise": _burst,
    "baseline drift": _drift,
    "electrodes problems": _electrode,
}
