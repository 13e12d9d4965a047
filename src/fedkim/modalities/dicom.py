"""DICOM files as grey pixels: what the header claims is judged before anything is decoded.

MONOCHROME1 is turned so that dense is bright, as in MONOCHROME2; rescaling or the modality's table of values is applied;
colour (RGB, YBR, palette) becomes luminance; pixel padding takes the darkest value. The window that was chosen for a viewer
isn't applied: :func:`~fedkim.modalities.image.prepare` windows every picture by its own percentiles. Standard: DICOM PS3.3,
C.7.6.3 (Image Pixel) and C.11.1 (Modality LUT). The reader is pydicom, from the extra ``imaging``.

Errors carry a code: ``E-DCM-UNREADABLE`` no DICOM, or damaged · ``E-DCM-NO-PIXELS`` · ``E-DCM-WAVEFORM`` · ``E-DCM-HEADER`` an
element that lacks or can't be · ``E-DCM-TOO-LARGE`` · ``E-DCM-LENGTH`` more or fewer bytes than rows × columns ·
``E-DCM-FRAMES`` several frames and no choice declared · ``E-DCM-SYNTAX`` a compression without a decoder here.
What a check may tell besides, and is no error: ``I-DCM-INVERTED``.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fedkim.errors import FedkimError, install_extra, unknown

MAX_PIXELS = 64_000_000
"""Of one frame; a mammogram has 14 million, a stitched leg 40."""
FRAMES = ("first", "middle")
"""What can be declared for files with several frames; without a declaration they are refused."""
INVERTED = "I-DCM-INVERTED"

_LARGE_FILE = 32 << 20
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's
_COPY_AGAIN = "copy the file again from its source"


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these 132 bytes says that it is DICOM."""
    return head[128:132] == b"DICM"


def read(path: str | Path, frames: str = "") -> np.ndarray:
    """The picture in a DICOM file, ``[height, width]``, dense is bright: integers as stored, or float32 where something was applied.

    Args:
        path: the file.
        frames: which of several frames to take, ``"first"`` or ``"middle"``; empty: such a file is refused.

    Raises:
        FedkimError: with a code of this module's list; or pydicom isn't installed.
    """
    if frames and frames not in FRAMES:
        raise unknown("choice of frames", frames, FRAMES)
    pydicom, what = _pydicom(), f"image {path}"
    with _damage_told(what):
        if os.stat(path).st_size > _LARGE_FILE:  # a small file is read in one go, a large one only after its header
            _claims(pydicom.dcmread(path, stop_before_pixels=True), what, frames)
        dataset = pydicom.dcmread(path)
        _require_pixels(dataset, what)
        claims = _claims(dataset, what, frames)
        _require_length(dataset, claims, what)
        return _grey(_decode(pydicom, dataset, claims, what), dataset, claims, what)


def header(path: str | Path, *keywords: str) -> Mapping[str, str]:
    """Elements of a DICOM file's header by keyword (``"ViewPosition"``), as text; an absent or empty one is ``""``.

    Raises:
        FedkimError: no such file, no DICOM, a damaged header, or pydicom isn't installed.
    """
    pydicom, what = _pydicom(), f"image {path}"
    with _damage_told(what):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
        return {word: str(value) if (value := dataset.get(word)) is not None else "" for word in keywords}


def _pydicom() -> ModuleType:
    try:
        import pydicom
    except ImportError:
        remedy = install_extra("imaging")
        raise FedkimError("DICOM files", found="no package pydicom", remedy=remedy) from None
    # pydicom's warnings quote the element, and that may be a patient's
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


@contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """An element is parsed when it is first asked for, and a damaged one makes pydicom raise anything."""
    try:
        yield
    except (FedkimError, MemoryError):
        raise
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="check the path", code="E-IMG-MISSING") from None
    except Exception as error:
        found = f"no DICOM that can be read ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy=_COPY_AGAIN, code="E-DCM-UNREADABLE") from None


@dataclass(frozen=True, kw_only=True)
class _Claims:
    """What the header says about the pixels, found possible."""

    rows: int
    columns: int
    photometric: str
    num_frames: int
    frame: int
    bytes_a_row: float


def _require_pixels(dataset: Any, what: str) -> None:
    if "PixelData" in dataset or "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        return
    waveform = "WaveformSequence" in dataset
    raise FedkimError(
        what,
        found="a DICOM waveform" if waveform else "a DICOM object without pixels",
        expected="a picture",
        remedy="give the file of the image" + (" (ECGs are read by the signal's readers)" if waveform else ""),
        code="E-DCM-WAVEFORM" if waveform else "E-DCM-NO-PIXELS",
    )


def _claims(dataset: Any, what: str, frames: str) -> _Claims:
    rows, columns = _count(dataset, "Rows", what), _count(dataset, "Columns", what)
    if rows * columns > MAX_PIXELS:
        found, expected = f"{columns} × {rows} pixels", f"at most {MAX_PIXELS // 10**6} million"
        raise FedkimError(what, found=found, expected=expected, code="E-DCM-TOO-LARGE")
    samples, bits = _count(dataset, "SamplesPerPixel", what, 1), _count(dataset, "BitsAllocated", what)
    if samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        found = f"{samples} samples of {bits} bits a pixel"
        raise FedkimError(what, found=found, expected="1 or 3 samples of 1, 8, 16, 32 or 64", code="E-DCM-HEADER")
    num = _count(dataset, "NumberOfFrames", what, 1)
    if num > 1 and not frames:
        remedy = 'give a single frame; in a site file data.image.frames = "first" or "middle" chooses one'
        raise FedkimError(what, found=f"{num} frames", expected="one", remedy=remedy, code="E-DCM-FRAMES")
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    return _Claims(
        rows=rows,
        columns=columns,
        photometric=photometric,
        num_frames=num,
        frame=num // 2 if frames == "middle" else 0,
        bytes_a_row=columns * (2 if photometric == "YBR_FULL_422" else samples) * bits / 8,
    )


def _require_length(dataset: Any, claims: _Claims, what: str) -> None:
    """Uncompressed pixels must be as many bytes as the header says, or at most a row more (padding happens).

    Beyond that the columns are wrong, and the picture would come out sheared.
    """
    if "PixelData" not in dataset or _compressed(dataset, what):
        return
    stored, expected = len(dataset.PixelData), math.ceil(claims.bytes_a_row * claims.rows * claims.num_frames)
    if not expected <= stored <= expected + max(1, math.ceil(claims.bytes_a_row)):
        frames = f" × {claims.num_frames} frames" if claims.num_frames > 1 else ""
        raise FedkimError(
            what,
            found=f"{stored} bytes of pixels",
            expected=f"{expected} for {claims.columns} × {claims.rows}{frames}",
            remedy=_COPY_AGAIN,
            code="E-DCM-LENGTH",
        )


def _count(dataset: Any, keyword: str, what: str, default: int | None = None) -> int:
    try:
        value = dataset.get(keyword)
        number = default if value is None else int(value)
    except Exception:  # the element holds no number
        number = -1
    if number is None or number < 1:
        found = f"no {keyword}" if number is None else f"{keyword} that is no number above 0"
        raise FedkimError(what, found=found, remedy=_COPY_AGAIN, code="E-DCM-HEADER")
    return number


def _compressed(dataset: Any, what: str) -> bool:
    try:
        return bool(dataset.file_meta.TransferSyntaxUID.is_encapsulated)
    except (AttributeError, ValueError):
        found = "no transfer syntax that DICOM knows"
        raise FedkimError(what, found=found, remedy=_COPY_AGAIN, code="E-DCM-HEADER") from None


def _decode(pydicom: ModuleType, dataset: Any, claims: _Claims, what: str) -> np.ndarray:
    """``[H, W]`` or, in colour, ``[H, W, 3]`` as RGB."""
    try:
        pixels = pydicom.pixels.pixel_array(dataset, index=claims.frame)
        if claims.photometric == "PALETTE COLOR":
            pixels = pydicom.pixels.apply_color_lut(pixels, dataset)[..., :3]
        elif "ModalityLUTSequence" in dataset:
            pixels = pydicom.pixels.apply_modality_lut(pixels, dataset)
    except MemoryError:
        raise
    except Exception as error:
        raise _undecodable(pydicom, dataset, error, what) from None
    shape = (claims.rows, claims.columns)
    if pixels.shape[:2] != shape or pixels.shape[2:] not in ((), (3,)):
        found = f"decoded pixels of shape {pixels.shape}"
        raise FedkimError(what, found=found, expected=str(shape), remedy=_COPY_AGAIN, code="E-DCM-LENGTH")
    return pixels


def _undecodable(pydicom: ModuleType, dataset: Any, error: Exception, what: str) -> FedkimError:
    uid = dataset.file_meta.get("TransferSyntaxUID", "")
    common = (pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEG2000, pydicom.uid.JPEG2000Lossless, pydicom.uid.RLELossless)
    if uid in pydicom.uid.AllTransferSyntaxes and uid.is_encapsulated and uid not in common:
        remedy = "install pylibjpeg-libjpeg or python-gdcm, or store the file uncompressed (dcmconv, gdcmconv --raw)"
        return FedkimError(what, found=f"{uid.name}, no decoder for it", remedy=remedy, code="E-DCM-SYNTAX")
    found = f"pixels that can't be decoded ({type(error).__name__})"
    return FedkimError(what, found=found, remedy=_COPY_AGAIN, code="E-DCM-UNREADABLE")


def _grey(pixels: np.ndarray, dataset: Any, claims: _Claims, what: str) -> np.ndarray:
    """The decoded frame with everything applied that decides what is bright."""
    if pixels.ndim == 3:
        return pixels.astype(np.float32) @ _LUMINANCE
    padding = _padding(pixels, dataset, what)
    if "ModalityLUTSequence" not in dataset:
        slope, intercept = _number(dataset, "RescaleSlope", 1.0, what), _number(dataset, "RescaleIntercept", 0.0, what)
        if slope == 0:
            raise FedkimError(what, found="RescaleSlope 0", remedy=_COPY_AGAIN, code="E-DCM-HEADER")
        if (slope, intercept) != (1.0, 0.0):
            pixels = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if claims.photometric == "MONOCHROME1":
        pixels = -pixels.astype(np.float32)
    if padding is not None and padding.any() and not padding.all():
        pixels = np.where(padding, pixels[~padding].min(), pixels)
    return pixels


def _padding(stored: np.ndarray, dataset: Any, what: str) -> np.ndarray | None:
    """Where the stored values say "outside of the picture" (PixelPaddingValue, with a limit if it's a range)."""
    if "PixelPaddingValue" not in dataset:
        return None
    one = _number(dataset, "PixelPaddingValue", 0.0, what)
    other = _number(dataset, "PixelPaddingRangeLimit", one, what)
    return (stored >= min(one, other)) & (stored <= max(one, other))


def _number(dataset: Any, keyword: str, default: float, what: str) -> float:
    try:
        value = dataset.get(keyword)
        number = default if value is None else float(value)
    except Exception:  # the element holds no number
        number = math.nan
    if not math.isfinite(number):
        raise FedkimError(what, found=f"{keyword} that is no number", remedy=_COPY_AGAIN, code="E-DCM-HEADER")
    return number
