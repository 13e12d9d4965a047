"""Signal: ten seconds of an electrocardiogram, any number of leads, its preprocessing and its encoder.

Canonical tensor: float32 ``[leads, 1000]``, 100 samples a second, free of units: each lead minus its median, the window
divided by its own 99th percentile of absolute values, clipped to ±5 (electrode gain differs between devices).
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedkim.errors import FedkimError
from fedkim.modalities.modality import Modality
from fedkim.modalities.signal_files import read_wave, standard_order

SAMPLING_RATE = 100
"""Samples per second of the canonical tensor."""
SECONDS = 10
SAMPLES = SAMPLING_RATE * SECONDS
FLAT = 1e-9
"""A lead that moves less than this share of the window's largest value is flat."""


def read_record(
    path: str | Path,
    start_seconds: float = 0.0,
    *,
    leads: Sequence[str] | None = None,
    missing: str = "refuse",
    sampling_rate: float = 0.0,
    units: str = "",
) -> Tensor:
    """Ten seconds of a WFDB record or a CSV table, from ``start_seconds`` on, as the canonical ``[leads, 1000]``.

    Args:
        path: the record, with or without its ``.hea`` ending, or a ``.csv`` (``fedkim.modalities.signal_files``).
        start_seconds: where the window begins.
        leads: leads by name in the order wanted, such as ``STANDARD_LEADS``; default: the standard twelve in their
            order where the file has just these, else those of the file as they stand.
        missing: what to do about a lead that isn't there: ``refuse``, or ``mask`` (a line of zeros).
        sampling_rate: declared samples a second.
        units: declared unit of leads that state none.

    Raises:
        FedkimError: no wfdb, no such record, unreadable, too short, not an ECG by rate or amplitude, a lead missing, or
            fails :func:`prepare`.
    """
    named = leads or ()
    wave = read_wave(
        path, start_seconds, SECONDS, sampling_rate=sampling_rate, units=units, leads=named, missing=missing
    )
    wave = standard_order(wave)  # twelve have one order, whatever the one they are named in
    return prepare(wave.values, wave.rate, what=wave.what)


def read_signal(path: str | Path, **settings: Any) -> dict[str, Tensor]:
    """:func:`read_record` by modality: ``{"signal": [leads, 1000]}``."""
    return {"signal": read_record(path, **settings)}


def prepare(wave: np.ndarray, sampling_rate: float, *, what: str = "signal") -> Tensor:
    """A wave ``[leads, n]`` at ``sampling_rate`` samples a second as the canonical ``[leads, 1000]`` of its first 10 s.

    Resampled by a polyphase filter, so that nothing above the new Nyquist frequency folds back. A flat lead (missing,
    or an electrode that fell off) becomes zeros and has no part in the scale.

    Raises:
        FedkimError: not two-dimensional, shorter than 10 s, NaN or infinite, or every lead flat.
    """
    from scipy.signal import resample_poly  # a third of a second to import

    if wave.ndim != 2:
        raise FedkimError(what, found=f"an array of shape {wave.shape}", expected="[leads, samples]")
    needed = round(SECONDS * sampling_rate)
    if wave.shape[1] < needed:
        seconds = wave.shape[1] / sampling_rate
        expected, remedy = f"{SECONDS} s", "give a longer recording"
        raise FedkimError(what, found=f"{seconds:.2f} s", expected=expected, remedy=remedy, code="E-ECG-LENGTH")
    values = np.asarray(wave[:, :needed], dtype=np.float64)
    if not np.isfinite(values).all():
        remedy = "choose a window without missing samples"
        raise FedkimError(what, found="samples that are NaN or infinite", remedy=remedy, code="E-ECG-GAPS")
    flat = np.ptp(values, axis=1) <= FLAT * max(1.0, float(np.abs(values).max()))
    if flat.all():
        remedy = "choose a window with signal"
        raise FedkimError(what, found="a flat line in every lead", remedy=remedy, code="E-ECG-FLAT")
    values -= np.median(values, axis=1, keepdims=True)  # the filter would ring on an offset
    if sampling_rate != SAMPLING_RATE:
        ratio = Fraction(SAMPLING_RATE / sampling_rate).limit_denominator(2000)
        values = resample_poly(values, ratio.numerator, ratio.denominator, axis=1, padtype="line")
        values = np.pad(values[:, :SAMPLES], ((0, 0), (0, max(0, SAMPLES - values.shape[1]))), mode="edge")
    values = values - np.median(values, axis=1, keepdims=True)
    values[flat] = 0.0
    # a lone spike leaves the percentile at 0: then its height is the scale
    scale = np.percentile(np.abs(values[~flat]), 99) or np.abs(values).max()
    return torch.from_numpy(np.clip(values / scale, -5, 5).astype(np.float32))


def augment(waves: Tensor, generator: torch.Generator) -> Tensor:
    """Change the gain of ``[B, leads, T]`` (0.7–1.3), flip the polarity of a quarter and add noise (0–0.1)."""
    gain, polarity, noise = torch.rand(3, len(waves), 1, 1, generator=generator).unbind(0)
    sign = torch.where(polarity < 0.25, -1.0, 1.0)
    return waves * (0.7 + 0.6 * gain) * sign + 0.1 * noise * torch.randn(waves.shape, generator=generator)


class SignalCNN(nn.Module):
    """A one-dimensional CNN over time, pooled to equal spans: ``[B, leads, T] → [B, tokens, width]``.

    Six stride-2 stages, so that a unit sees two and a half seconds, a beat with its neighbours: whether a beat is early, or
    broader than the others, can't be told from the beat alone, and a network that sees less learns the patient instead.
    Each span gives its largest responses, because a single odd beat must not drown in the mean of ten seconds.

    Each lead enters twice: as it is, and minus its moving average, so that the shape of a beat can be read off a
    wandering baseline and the wander itself isn't lost. Without the second, beats of an unseen patient are missed.
    """

    SMOOTHING = 61
    """Samples of the moving average, 0.6 s: longer than a beat's complex, shorter than a breath."""

    def __init__(self, input_shape: tuple[int, ...], width: int, tokens: int):
        super().__init__()
        channels = (2 * input_shape[0], width // 8, width // 4, width // 2, width, width, width)
        kernels = (7, 5, 5, 5, 5, 5)
        self.stages = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride=2, padding=kernel // 2)
            for (before, after), kernel in zip(itertools.pairwise(channels), kernels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, after), after) for after in channels[1:])
        self.pool = nn.AdaptiveMaxPool1d(tokens)
        self.norm = nn.LayerNorm(width)

    def forward(self, waves: Tensor) -> Tensor:
        """Encode a batch."""
        half = self.SMOOTHING // 2
        baseline = functional.avg_pool1d(
            functional.pad(waves, (half, half), mode="replicate"), self.SMOOTHING, stride=1
        )
        hidden = torch.cat([waves, waves - baseline], dim=1)
        for stage, norm in zip(self.stages, self.norms, strict=True):
            hidden = functional.relu(norm(stage(hidden)))
        return self.norm(self.pool(hidden).transpose(1, 2))


SIGNAL = Modality(
    name="signal",
    description=(
        "An electrocardiogram: ten seconds of the heart's electrical activity recorded on the skin, which shows "
        "rhythm, rate, the shape of each beat and disturbances of the recording."
    ),
    tokens=8,
    encoders={"cnn": SignalCNN},
    augment=augment,
)
