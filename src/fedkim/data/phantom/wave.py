"""Waves: ten seconds of a twelve-lead ECG from closed-form beats, drawn from factors for a whole chunk at once.

A beat is a sum of Gaussian waves (P, Q, R, S, ST, T) at fixed times around its R peak, as in McSharry et al. 2003
without the differential equation; a table projects each wave onto the leads. Normal variants of width, axis, T wave
and rate overlap with the findings on purpose.
"""

import numpy as np

from fedkim.data.phantom.factors import FINDINGS, Factors
from fedkim.modalities.signal_files import STANDARD_LEADS as LEADS

# B patients of a chunk, K beats, T samples, W waves, L leads

NOISES = ("none", "baseline drift", "static noise", "burst noise")
"""Values of the trait ``noise``."""
NOISE_LEADS = (LEADS[:6], LEADS[6:], LEADS)
"""Values of the trait ``noise_leads``: limb leads, chest leads, all."""

_SAMPLES, _RATE, _BEATS = 1000, 100, 26
_LIMB_ANGLES = np.deg2rad(np.array([0, 60, 120, -150, -30, 90], dtype=np.float32))
_CHEST = {
    "R": np.array([0.25, 0.45, 0.80, 1.20, 1.10, 0.90], dtype=np.float32),
    "S": np.array([1.00, 1.20, 0.80, 0.50, 0.25, 0.10], dtype=np.float32),
    "T": np.array([0.15, 0.60, 0.75, 0.70, 0.60, 0.50], dtype=np.float32),
}
_TERRITORIES = np.array(
    [[0.3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0.3, 0.5], [0.3, 0, 0, 0, 0.5, 0, 1, 1, 1, 1, 0.5, 0.3]], dtype=np.float32
)
_HUM = (0.0, 0.02, 0.01, 0.03, 0.015)
_NOISE = (0.015, 0.02, 0.03, 0.02, 0.025)


def render(factors: Factors, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Raw leads in millivolts, float32 ``[B, 12, 1000]``, and beats a minute, float32 ``[B]``, of one chunk."""
    num = len(factors)
    peaks_BK, early_BK = _rhythm(factors, random)
    time = np.arange(_SAMPLES, dtype=np.float32) / _RATE
    beat_BT = (time[None, None, :] >= peaks_BK[:, :, None] - 0.28).sum(axis=1) - 1
    beat_BT = np.clip(beat_BT, 1, _BEATS - 1)
    since = time - np.take_along_axis(peaks_BK, beat_BT, axis=1)
    before = time - np.take_along_axis(peaks_BK, beat_BT - 1, axis=1)  # the last beat's T wave may still run
    early = np.take_along_axis(early_BK, beat_BT, axis=1)
    early_before = np.take_along_axis(early_BK, beat_BT - 1, axis=1)

    def spread(scale: float) -> np.ndarray:
        """A positive nuisance ``[B, 1]`` around one."""
        return np.exp(np.float32(scale) * random.standard_normal((num, 1), dtype=np.float32))

    pattern = factors.traits["pattern"]
    strength = factors.strength("ecg_abnormal")[:, None]
    wide = 1 + 1.1 * strength * (pattern == 1)[:, None]
    widening = spread(0.10) * wide
    interval = np.median(np.diff(peaks_BK, axis=1), axis=1, keepdims=True)
    late = 0.29 * np.sqrt(interval / 0.8) * spread(0.05)
    ordinary = 1 - early
    waves_BWT = np.stack(
        [
            _hill(since + 0.16 * spread(0.06), 0.022) * ordinary * 0.12 * spread(0.25),
            _hill(since + 0.025 * widening, 0.009 * widening) * ordinary,
            _hill(since, 0.011 * widening) * ordinary + 0.5 * _hill(since - 0.045, 0.02) * ordinary * (wide - 1),
            _hill(since - 0.028 * widening, 0.011 * widening) * ordinary,
            _hill(since - 0.14, 0.045) * ordinary,
            _hill(since - late, 0.055) * ordinary + _hill(before - late, 0.055) * (1 - early_before),
            early * _hill(since, 0.045)
            - early * 0.5 * _hill(since - 0.30, 0.07)
            - early_before * 0.5 * _hill(before - 0.30, 0.07),
        ],
        axis=1,
    ).astype(np.float32)
    wave = np.matmul(_projection(factors, random).transpose(0, 2, 1), waves_BWT)
    return _record(wave, factors, random, time), (60 / interval[:, 0]).astype(np.float32)


def _rhythm(factors: Factors, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times of the R peaks in seconds and which beats are ectopic (early), both float32 ``[B, K]``."""
    num = len(factors)
    rate = np.clip(75 + 14 * random.standard_normal((num, 1), dtype=np.float32), 48, 125)
    jitter = 1 + np.float32(0.03) * random.standard_normal((num, _BEATS), dtype=np.float32)
    intervals = 60 / rate * jitter
    first = -2 * intervals[:, :1] * random.random((num, 1), dtype=np.float32)
    peaks = first + np.cumsum(intervals, axis=1) - intervals[:, :1]
    severity = factors.severities["ectopic_beats"] - np.float32(FINDINGS["ectopic_beats"].threshold)
    ectopic = np.where(severity > 0, np.minimum(1 + np.floor(severity / 0.5), 3), 0)
    inside = (peaks > 0.6) & (peaks < 9.2)
    order = np.argsort(np.where(inside, random.random(peaks.shape), 2.0), axis=1).argsort(axis=1)
    early = ((order < ectopic[:, None]) & inside).astype(np.float32)
    return (peaks - np.float32(0.28) * early * intervals).astype(np.float32), early


def _projection(factors: Factors, random: np.random.Generator) -> np.ndarray:
    """How much of each wave each lead sees, in millivolts, float32 ``[B, W, L]``."""
    num = len(factors)
    pattern, strength = factors.traits["pattern"], factors.strength("ecg_abnormal")
    axis = np.deg2rad(50 + 40 * random.standard_normal((num, 1), dtype=np.float32))
    limb = np.cos(axis - _LIMB_ANGLES)
    limb_t = np.cos(axis * 0.7 + 0.2 - _LIMB_ANGLES)

    def leads(limb_part: np.ndarray, chest_part: np.ndarray) -> np.ndarray:
        varied = chest_part * np.exp(0.3 * random.standard_normal((num, 6), dtype=np.float32))
        return np.concatenate([limb_part, varied], axis=1)

    t_wave = leads(limb_t * 0.30, 0.35 * _CHEST["T"]) * np.exp(0.25 * random.standard_normal((num, 1)))
    r_wave = leads(limb * 0.9, _CHEST["R"])
    s_wave = leads(-0.15 * limb, -_CHEST["S"])
    territory = _TERRITORIES[random.integers(2, size=num)]
    sick = [(strength * (pattern == index))[:, None].astype(np.float32) for index in range(3)]
    # ischaemia turns T waves over in its territory, conduction block everywhere, strain where the voltage is high
    t_wave = t_wave * (1 - 1.8 * sick[0] * territory) * (1 - 1.5 * sick[1])
    t_wave = t_wave * (1 - 1.7 * sick[2] * (r_wave > 0.6))
    high = np.concatenate([np.ones((1, 6)), np.full((1, 6), 1.8)], axis=1)
    r_wave, s_wave = r_wave * (1 + (high - 1) * sick[2]), s_wave * (1 + (high - 1) * sick[2])
    st = -0.12 * sick[0] * territory + 0.03 * random.standard_normal((num, 12), dtype=np.float32)
    ectopic = 1.2 * np.sign(r_wave + s_wave) * (0.6 + 0.6 * random.random((num, 12), dtype=np.float32))
    p_wave = np.concatenate([limb, np.full((num, 6), 0.6)], axis=1)
    return np.stack([p_wave, -0.1 * np.abs(r_wave), r_wave, s_wave, st, t_wave, ectopic], axis=1).astype(np.float32)


def _record(wave: np.ndarray, factors: Factors, random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """The leads as the site's machine records them, with the patient's kind of noise on its leads."""
    num = len(factors)
    machine = factors.traits["site"] % len(_HUM)
    gain = np.exp(0.08 * random.standard_normal((num, 12, 1), dtype=np.float32))
    device = np.exp(0.45 * random.standard_normal((num, 1, 1), dtype=np.float32))  # so that size alone tells nothing
    phase = 2 * np.pi * random.random((num, 12, 3), dtype=np.float32)
    hum = np.array(_HUM, dtype=np.float32)[machine][:, None, None] * np.sin(2 * np.pi * 40 * time + phase[:, :, :1])
    wander = np.sin(2 * np.pi * 0.3 * time + phase[:, :, 1:2]) + 0.6 * np.sin(2 * np.pi * 0.17 * time + phase[:, :, 2:])
    white = random.standard_normal(wave.shape, dtype=np.float32)
    floor = np.array(_NOISE, dtype=np.float32)[machine][:, None, None]
    floor = floor * np.exp(0.5 * random.standard_normal((num, 1, 1), dtype=np.float32))
    start = random.random((num, 12, 1), dtype=np.float32) * 8
    burst = _hill(time - start - 0.8, 0.35)
    noise = factors.traits["noise"][:, None, None]
    leads = np.array([[lead in group for lead in LEADS] for group in NOISE_LEADS], dtype=np.float32)
    here = leads[factors.traits["noise_leads"]][:, :, None]
    drift = (0.03 + 0.30 * here * (noise == 1)) * wander
    level = floor + here * (0.10 * (noise == 2) + 0.35 * (noise == 3) * burst)
    return (device * (wave * gain + hum + drift + level * white)).astype(np.float32)


def _hill(distance: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """A Gaussian of height one."""
    return np.exp(-((distance / width) ** 2) / 2)
