"""Pictures: a schematic chest, two dark lungs around a bright middle, drawn from factors for a whole chunk at once.

The picture is schematic and is called a phantom everywhere: it is no X-ray and teaches nothing about one. Each site
has a scanner of its own (gamma, noise, blur, a burnt-in mark), unrelated to any finding.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from fedkim.data.phantom.factors import Factors

# B patients of a chunk, S pixels a side; picture coordinates run from -1 to 1, x to the right, y downwards

_GAMMA = (1.0, 0.75, 1.3, 0.9, 1.15)
_NOISE = (0.020, 0.035, 0.025, 0.045, 0.030)
_BLUR = (0.0, 0.5, 0.35, 0.0, 0.6)
_MARK = ((-0.88, -0.88), (0.88, -0.88), (-0.88, 0.88), (0.88, 0.88), (0.0, -0.94))
_ZONES = np.array([-0.30, 0.0, 0.27], dtype=np.float32)


def render(factors: Factors, random: np.random.Generator, size: int) -> np.ndarray:
    """Raw grey values, float32 ``[B, S, S]`` in 0…1, of one chunk."""
    num = len(factors)
    strength = {task: _column(factors.strength(task)) for task in factors.severities}
    trait = {name: _column(values.astype(np.float32)) for name, values in factors.traits.items()}

    def spread(scale: float, centre: float = 0.0) -> np.ndarray:
        """A nuisance ``[B, 1, 1]``, normal around ``centre``."""
        return _column(random.standard_normal(num, dtype=np.float32)) * np.float32(scale) + np.float32(centre)

    axis = np.linspace(-1, 1, size, dtype=np.float32)
    zoom = spread(0.04, 1.0)
    x_BSS = (axis[None, None, :] - spread(0.03)) / zoom
    y_BSS = (axis[None, :, None] - spread(0.03)) / zoom

    collapse = strength["atelectasis"]
    collapsed_side = trait["atelectasis_side"] * 2 - 1
    shift = 0.13 * collapse * collapsed_side + spread(0.015)
    picture = 0.68 + 0.06 * _field(random, num, size)
    lungs = np.zeros((num, size, size), dtype=np.float32)
    for side in (-1, 1):
        lungs += _lung(x_BSS, y_BSS, side, trait, strength, shift, spread)
    picture = picture - 0.42 * lungs
    ribs = np.sin(2 * np.pi * (4.5 * y_BSS + 0.9 * x_BSS**2 + spread(0.2)), dtype=np.float32)
    picture += 0.03 * ribs * lungs

    width = (0.148 + 0.087 * strength["enlarged_cardiomediastinum"] + spread(0.012)) * (1 + 0.25 * y_BSS)
    middle = expit((width - np.abs(x_BSS - shift)) / 0.025)
    magnified = 1 + 0.18 * trait["view"] + spread(0.08)
    heart = _blob(x_BSS - shift - 0.12, y_BSS - 0.32, 0.15 * magnified, 0.15 * magnified)
    # brightness differs between patients: else the mean of the centre alone gives a wide middle away
    picture += spread(0.07, 0.20) * middle + spread(0.04, 0.22) * heart

    opacity_x = (trait["opacity_side"] * 2 - 1) * (0.46 + spread(0.03))
    opacity_y = _column(_ZONES[factors.traits["opacity_zone"]]) + spread(0.03)
    radius = 0.16 + 0.06 * trait["opacity_large"] + spread(0.008)
    net = (np.cos(2 * np.pi * 6 * x_BSS) + np.cos(2 * np.pi * 6 * y_BSS)) / 2
    dense = _blob(x_BSS - opacity_x, y_BSS - opacity_y, radius, radius)
    picture += strength["lung_opacity"] * dense * (0.17 + 0.75 * net)
    streaks = np.cos(2 * np.pi * 4 * y_BSS)
    for side in (-1, 1):
        for level in (-0.28, 0.12):
            patch = _blob(x_BSS - side * (0.70 + spread(0.015)), y_BSS - level - spread(0.05), 0.06, 0.11)
            picture += strength["covid"] * patch * (0.30 + 0.45 * streaks)
    nodule = _blob(x_BSS - spread(0.4), y_BSS - spread(0.3), 0.04, 0.04)
    picture += 0.12 * nodule
    tube_x = (trait["line_side"] * 2 - 1) * 0.10 + 0.08 * (y_BSS + 0.9)
    picture += 0.3 * trait["line"] * np.exp(-(((x_BSS - tube_x) / 0.02) ** 2)) * expit((0.15 - y_BSS) / 0.03)
    picture *= expit((0.95 - np.abs(x_BSS)) / 0.04)
    return _scan(picture.astype(np.float32), factors.traits["site"], random, axis)


def _lung(
    x: np.ndarray,
    y: np.ndarray,
    side: int,
    trait: Mapping[str, np.ndarray],
    strength: Mapping[str, np.ndarray],
    shift: np.ndarray,
    spread: Callable[[float], np.ndarray],
) -> np.ndarray:
    """Where one lung is dark, 0…1: smaller when collapsed, cut by the diaphragm, filled from below by fluid."""
    here = (trait["atelectasis_side"] * 2 - 1 == side).astype(np.float32)
    wet = (trait["effusion_side"] * 2 - 1 == side).astype(np.float32)
    from_middle = (x - shift) * side  # outwards positive
    lateral = (from_middle - 0.47) / 0.30
    inside = expit((1 - lateral**2 - ((y + 0.08) / 0.66) ** 4) * 7)
    diaphragm = 0.50 - 0.28 * here * strength["atelectasis"] + spread(0.03) + 0.10 * lateral**2
    fluid = diaphragm - 0.35 * wet * strength["pleural_effusion"] - 0.12 * wet * strength["pleural_effusion"] * lateral
    return inside * expit((np.minimum(diaphragm, fluid) - y) / 0.025)


def _scan(picture: np.ndarray, site_B: np.ndarray, random: np.random.Generator, axis: np.ndarray) -> np.ndarray:
    """The picture as the site's scanner gives it."""
    num, size, _ = picture.shape
    scanner = site_B % len(_GAMMA)
    gamma = np.array(_GAMMA, dtype=np.float32)[scanner] * np.exp(0.05 * random.standard_normal(num, dtype=np.float32))
    exposure = np.exp(0.08 * random.standard_normal(num, dtype=np.float32))
    picture = np.clip(picture, 1e-3, 1.3) ** _column(gamma) * _column(exposure)
    for index, sigma in enumerate(_BLUR):
        rows = scanner == index
        if sigma and rows.any():
            picture[rows] = gaussian_filter(picture[rows], sigma=(0, sigma * size / 64, sigma * size / 64))
    mark = np.array(_MARK, dtype=np.float32)[scanner]
    on_mark = (np.abs(axis[None, None, :] - mark[:, 0, None, None]) < 0.05) & (
        np.abs(axis[None, :, None] - mark[:, 1, None, None]) < 0.03
    )
    picture = np.where(on_mark, np.float32(1.2), picture)
    noise = random.standard_normal(picture.shape, dtype=np.float32)
    level = np.array(_NOISE, dtype=np.float32)[scanner] * np.exp(0.4 * random.standard_normal(num, dtype=np.float32))
    return picture + _column(level) * noise


def _field(random: np.random.Generator, num: int, size: int) -> np.ndarray:
    """A smooth random field ``[B, S, S]``: 6 × 6 normal knots, linearly interpolated."""
    knots = 6
    position = np.linspace(0, knots - 1, size)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(knots))).astype(np.float32)
    return weights @ random.standard_normal((num, knots, knots), dtype=np.float32) @ weights.T


def _blob(x: np.ndarray, y: np.ndarray, radius_x: np.ndarray | float, radius_y: np.ndarray | float) -> np.ndarray:
    """A Gaussian hill of height one at the origin."""
    return np.exp(-((x / radius_x) ** 2 + (y / radius_y) ** 2) / 2)


def _column(values: np.ndarray) -> np.ndarray:
    """``[B]`` as ``[B, 1, 1]``."""
    return values[:, None, None]
