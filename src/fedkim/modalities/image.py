"""Image: one grey picture (a frontal X-ray, a phantom), its preprocessing and its encoders.

Canonical tensor: float32 ``[1, S, S]``, contrast-windowed and standardised per image, so that the bit depth and the
exposure of the scanner say as little as possible. Padding is black; nothing is cropped.
"""

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from fedkim.errors import FedkimError
from fedkim.modalities.modality import Modality
from fedkim.modalities.picture import as_picture, open_grey

SMALLEST_SIDE = 32
"""Pixels: below this no finding can be seen, and a file this small is a thumbnail or a mistake."""


def read_image(path: str | Path, size: int = 64, *, frames: str = "") -> Tensor:
    """The picture file at ``path`` as the canonical ``[1, size, size]``.

    PNG, JPEG, TIFF and DICOM, told by their content and not by their name; 8-bit, 16-bit and colour (as luminance).
    See :func:`prepare` for the rest.

    Args:
        path: the file.
        size: side of the result in pixels.
        frames: which frame of a file with several, ``"first"`` or ``"middle"``; empty: such a file is refused.

    Raises:
        FedkimError: the file is missing, no picture, cut short, larger than 64 megapixels, of several frames, or fails
            :func:`prepare`; with a code (:mod:`fedkim.modalities.picture`).
    """
    return _canonical(open_grey(path, frames=frames), size, f"image {path}")


def read(path: str | Path, *, size: int = 64, frames: str = "") -> dict[str, Tensor]:
    """:func:`read_image` by modality, as a record's input is read: ``{"image": [1, size, size]}``."""
    return {"image": read_image(path, size, frames=frames)}


def prepare(pixels: np.ndarray, size: int = 64, *, what: str = "image") -> Tensor:
    """Grey pixels ``[H, W]`` of any scale as ``[1, size, size]``.

    Shrunk with anti-aliasing, padded to a square with its darkest value, clipped to the 1st–99th percentile
    (markers and collimator borders would otherwise set the contrast), then zero mean and unit variance.

    Raises:
        FedkimError: not two-dimensional (``E-IMG-SHAPE``), too small (``E-IMG-TOO-SMALL``), NaN or infinite
            (``E-IMG-NONFINITE``), or without any contrast (``E-IMG-FLAT``).
    """
    if pixels.ndim != 2:
        found = f"an array of shape {pixels.shape}"
        raise FedkimError(what, found=found, expected="grey pixels [height, width]", code="E-IMG-SHAPE")
    if 0 in pixels.shape:
        raise _too_small(what, pixels.shape[1], pixels.shape[0])
    return _canonical(as_picture(pixels), size, what)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of a batch ``[B, 1, S, S]``, turn it by up to 10°, zoom by up to 10 %, shift by up to 5 %."""
    num = len(images)
    mirror, turn, zoom, shift_x, shift_y = (torch.rand(5, num, generator=generator) * 2 - 1).unbind(0)
    angle, scale, side = turn * math.radians(10), 1 + 0.1 * zoom, mirror.sign()
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([side * cosine, -sine, 0.05 * shift_x, side * sine, cosine, 0.05 * shift_y], dim=1)
    grid = functional.affine_grid(affine.view(num, 2, 3).to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


class ImageCNN(nn.Module):
    """Four stride-2 convolutions with GroupNorm, pooled to a grid of tokens: ``[B, C, S, S] → [B, tokens, width]``."""

    def __init__(self, input_shape: tuple[int, ...], width: int, tokens: int):
        super().__init__()
        channels = (input_shape[0], width // 8, width // 4, width // 2, width)
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, after), after) for after in channels[1:])
        self.pool = nn.AdaptiveAvgPool2d(token_grid(tokens))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch."""
        hidden = images
        for stage, norm in zip(self.stages, self.norms, strict=True):
            hidden = functional.relu(norm(stage(hidden)))
        return self.norm(self.pool(hidden).flatten(2).transpose(1, 2))


class DeiTTiny(nn.Module):
    """DeiT-tiny (Touvron et al. 2021; 12 layers of width 192) from scratch, its tokens pooled and projected.

    Patches are 16 pixels wide, 8 for pictures below 112 pixels. With exactly as many tokens as the Transformer has
    (198 at 224 pixels, as in the paper) nothing is pooled; otherwise the patch tokens are averaged over a grid.
    """

    def __init__(self, input_shape: tuple[int, ...], width: int, tokens: int):
        super().__init__()
        from transformers import DeiTConfig, DeiTModel  # half a second; only those who ask for it pay

        channels, size = input_shape[0], input_shape[-1]
        patch = 16 if size >= 112 else 8
        self.side, self.tokens, self.grid = size // patch, tokens, token_grid(tokens)
        config = DeiTConfig(
            hidden_size=192,
            num_hidden_layers=12,
            num_attention_heads=3,
            intermediate_size=768,
            image_size=size,
            patch_size=patch,
            num_channels=channels,
            attn_implementation="sdpa",
        )
        self.transformer = DeiTModel(config, add_pooling_layer=False)
        self.project = nn.Linear(192, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch."""
        hidden = self.transformer(images).last_hidden_state
        if hidden.shape[1] != self.tokens:
            patches = hidden[:, 2:].transpose(1, 2).unflatten(2, (self.side, self.side))
            hidden = functional.adaptive_avg_pool2d(patches, self.grid).flatten(2).transpose(1, 2)
        return self.norm(self.project(hidden))


def token_grid(tokens: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid with ``tokens`` cells: 8 → (2, 4)."""
    rows = next(rows for rows in range(math.isqrt(tokens), 0, -1) if tokens % rows == 0)
    return rows, tokens // rows


def _canonical(grey: Image.Image, size: int, what: str) -> Tensor:
    """:func:`prepare`, of a picture in Pillow's mode F."""
    width, height = grey.size
    if min(width, height) < SMALLEST_SIDE:
        raise _too_small(what, width, height)
    scale = size / max(height, width)
    shrunk = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(grey.resize(shrunk, Image.Resampling.BILINEAR))
    if not np.isfinite(small).all():  # every pixel has a weight in the shrunk picture, so none can hide
        remedy = "export the picture anew"
        raise FedkimError(what, found="pixels that are NaN or infinite", remedy=remedy, code="E-IMG-NONFINITE")
    low, high = _percentiles(small)
    clipped = np.clip(small.astype(np.float64), low, high)
    mean = float(clipped.mean())
    centred = clipped - mean
    spread = math.sqrt(np.square(centred).mean())
    if spread <= 1e-6 * max(1.0, abs(mean)):
        remedy = "give a picture with contents"
        raise FedkimError(what, found="one constant grey", remedy=remedy, code="E-IMG-FLAT")
    centred /= spread
    square = np.full((1, size, size), centred.min(), dtype=np.float32)
    top, left = (size - shrunk[1]) // 2, (size - shrunk[0]) // 2
    square[0, top : top + shrunk[1], left : left + shrunk[0]] = centred
    return torch.from_numpy(square)


def _too_small(what: str, width: int, height: int) -> FedkimError:
    return FedkimError(
        what,
        found=f"{width} × {height} pixels",
        expected=f"at least {SMALLEST_SIDE} a side",
        remedy="give the full-size picture, not a thumbnail",
        code="E-IMG-TOO-SMALL",
    )


def _percentiles(values: np.ndarray) -> list[float]:
    """The 1st and the 99th, interpolated: ``numpy.percentile`` to the bit, at a fifth of its time on 64 × 64."""
    places = [share * (values.size - 1) for share in (0.01, 0.99)]
    neighbours = [(math.floor(place), min(math.floor(place) + 1, values.size - 1)) for place in places]
    ordered = np.partition(values, [index for pair in neighbours for index in pair], axis=None)
    found = []
    for place, (below, above) in zip(places, neighbours, strict=True):
        left, right, share = float(ordered[below]), float(ordered[above]), place - below
        found.append(right - (right - left) * (1 - share) if share >= 0.5 else left + (right - left) * share)
    return found


IMAGE = Modality(
    name="image",
    description=(
        "A medical picture in shades of grey, such as a frontal chest X-ray, that shows the shape, size and "
        "brightness of the organs at one moment."
    ),
    tokens=8,
    encoders={"cnn": ImageCNN, "deit-tiny": DeiTTiny},
    augment=augment,
)
