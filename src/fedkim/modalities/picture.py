"""Pictures from files: PNG, JPEG, TIFF and DICOM, told by their content, as grey pixels.

A picture's size is judged before a pixel is decoded, and a file with several frames is refused unless it's declared which one
counts. Errors carry a code: ``E-IMG-MISSING`` · ``E-IMG-FORMAT`` · ``E-IMG-UNREADABLE`` cut short or damaged · ``E-IMG-TOO-LARGE`` ·
``E-IMG-FRAMES``; those of DICOM files stand in :mod:`fedkim.modalities.dicom`.
"""

import io
import os
import re
import stat
import struct
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fedkim.errors import FedkimError, unknown
from fedkim.modalities import dicom

FORMATS = ("PNG", "JPEG", "TIFF")
"""What Pillow may decode here; DICOM comes beside."""
_PHOTOMETRIC = 262
_BITS, _SAMPLE_FORMAT = 258, 339
_UNSIGNED, _SIGNED = 1, 2
_OPENING = threading.Lock()
_BUFFER = 1 << 18  # a small picture in one read
_SHARES = [float(value) for value in np.arange(256) / np.float32(255)]


def open_grey(path: str | Path, *, frames: str = "") -> Image.Image:
    """The picture in a file, at its full size, in Pillow's float mode ``F``; colour as luminance, dense is bright.

    Args:
        path: the file.
        frames: which frame of a file with several, ``"first"`` or ``"middle"``; empty: such a file is refused.

    Raises:
        FedkimError: with a code of this module's list or of :mod:`fedkim.modalities.dicom`.
    """
    what = f"image {path}"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FedkimError(what, found="a folder or a device", expected="a file", code="E-IMG-FORMAT")
        with open(path, "rb", buffering=0) as file:
            if not dicom.is_dicom(file.read(132)):
                return _picture(io.BufferedReader(file, _BUFFER), what, frames)
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="check the path", code="E-IMG-MISSING") from None
    except FedkimError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(what, error) from None
    return as_picture(dicom.read(path, frames))


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Grey pixels ``[H, W]`` of any type in Pillow's float mode ``F``."""
    return Image.fromarray(np.asarray(pixels, dtype=np.float32))


def _picture(file: BinaryIO, what: str, frames: str) -> Image.Image:
    """The grey picture, in Pillow's mode F, in an open PNG, JPEG or TIFF file; no other format's decoder is ever started."""
    try:
        file.seek(0)
        with _opened(file) as picture:
            width, height = picture.size
            if width * height > dicom.MAX_PIXELS:
                raise _too_large(what, f"{width} × {height} pixels")
            num = getattr(picture, "n_frames", 1)
            if num > 1:
                picture.seek(_frame(num, frames, what))
            picture.load()
            if picture.format == "TIFF":  # its orientation is Pillow's own matter
                tags = picture.tag_v2  # type: ignore[attr-defined]
                _require_samples(tags, what)
                dark_is_high = tags.get(_PHOTOMETRIC) == 0
                return _turned(_grey(picture), picture.mode) if dark_is_high else _grey(picture)
            return _grey(_upright(picture))
    except Image.DecompressionBombError as error:
        number = re.search(r"\d+", str(error))  # Pillow, which doesn't tell width and height of so many
        found = f"{int(number[0]):,} pixels" if number else "too many pixels"
        raise _too_large(what, found) from None
    except UnidentifiedImageError:
        expected, remedy = "PNG, JPEG, TIFF or DICOM", "convert the file"
        raise FedkimError(
            what, found="no picture format", expected=expected, remedy=remedy, code="E-IMG-FORMAT"
        ) from None
    except (FedkimError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow's parsers raise anything
        raise _unreadable(what, error) from None


def _require_samples(tags: Any, what: str) -> None:
    """Refuse numbers that Pillow wraps round, so that the brightest become the darkest."""
    form, bits = (int(np.ravel(tags.get(tag, 1))[0]) for tag in (_SAMPLE_FORMAT, _BITS))
    if (form, bits) in ((_SIGNED, 8), (_UNSIGNED, 32)):
        found = f"{'signed' if form == _SIGNED else 'unsigned'} samples of {bits} bits"
        expected, remedy = "unsigned ones of 8 or 16, signed ones of 16 or 32, or fractions", "convert the file"
        raise FedkimError(what, found=found, expected=expected, remedy=remedy, code="E-IMG-FORMAT")


def _opened(file: BinaryIO) -> Image.Image:
    with _OPENING, warnings.catch_warnings():  # of a size that is judged here; whose filters all threads share
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=FORMATS)


def _too_large(what: str, found: str) -> FedkimError:
    expected, remedy = f"at most {dicom.MAX_PIXELS // 10**6} million", "shrink the picture"
    return FedkimError(what, found=found, expected=expected, remedy=remedy, code="E-IMG-TOO-LARGE")


def _frame(num: int, frames: str, what: str) -> int:
    if not frames:
        remedy = 'give a single frame; in a site file data.image.frames = "first" or "middle" chooses one'
        raise FedkimError(what, found=f"{num} frames", expected="one", remedy=remedy, code="E-IMG-FRAMES")
    if frames not in dicom.FRAMES:
        raise unknown("choice of frames", frames, dicom.FRAMES)
    return num // 2 if frames == "middle" else 0


def _unreadable(what: str, error: Exception) -> FedkimError:
    found, remedy = f"unreadable ({type(error).__name__})", "copy the file again from its source"
    return FedkimError(what, found=found, remedy=remedy, code="E-IMG-UNREADABLE")


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its file says; as it stands where what the file says can't be read (de-identified files have zeros there)."""
    try:
        return ImageOps.exif_transpose(picture)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return picture


def _turned(grey: Image.Image, mode: str) -> Image.Image:
    """A WhiteIsZero picture with dense as bright; Pillow has turned those of eight bits and fewer."""
    if mode.startswith("I;16"):
        return as_picture(1 - np.asarray(grey))
    return as_picture(-np.asarray(grey)) if mode in ("I", "F") else grey


def _grey(picture: Image.Image) -> Image.Image:
    """Luminance in 0…1 of any picture mode, as mode F."""
    if picture.mode.startswith("I;16"):
        return as_picture(np.asarray(picture, dtype=np.float32) / 65535)
    if picture.mode in ("I", "F"):
        return picture.convert("F")  # no fixed range; it is windowed later
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return (picture if picture.mode == "L" else picture.convert("L")).point(_SHARES, "F")
