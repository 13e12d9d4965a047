"""What reading a picture costs beside the libraries alone, on one core, by turns, on synthetic files.

*Decode only*: our reader's grey pixels over the library's own idiom (``pydicom.dcmread(path).pixel_array``; ``Image.open``,
``load`` and an array). *Decode + preprocessing*: our canonical tensor of 64 pixels a side over the library's decoding, a
conversion to float and the same resize: what nobody who wants a small grey picture can leave out. Ours judges headers, windows
and standardises beside that; the target is 10 % for all of it.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Report, Settings, ratio, take_turns
from fedkim.modalities import dicom, image, picture

SIZE = 64
TARGET = 1.1
PASSES = 5
"""Readings of one variant a turn: a single one is shorter than the machine's hiccups."""


def run(settings: Settings, report: Report) -> None:
    report.title("Decoding a picture, ours over the library's")
    with tempfile.TemporaryDirectory(prefix="fedkim-benchmark-") as folder:
        for name, path in write(Path(folder)).items():
            variants = dicom_variants(path) if path.suffix == ".dcm" else png_variants(path)
            seconds = take_turns(
                {part: repeated(call) for part, call in variants.items()}, device="cpu", rounds=settings.rounds
            )
            report.remember(name, {part: [value / PASSES for value in values] for part, values in seconds.items()})
            for what in ("decode only", "decode + preprocessing"):
                ours, theirs = seconds[f"our {what}"], seconds[f"their {what}"]
                report.add(ratio(f"{name}, {what}", ours, theirs, target=TARGET))


def write(folder: Path) -> dict[str, Path]:
    """Synthetic pictures: smooth shapes under noise, of which a PNG encoder saves about a third."""
    large, small = synthetic(1024), synthetic(299)
    paths = {
        "DICOM 1024 × 1024, 8 bit": folder / "large.dcm",
        "PNG 1024 × 1024": folder / "large.png",
        "PNG 299 × 299": folder / "small.png",
    }
    write_dicom(paths["DICOM 1024 × 1024, 8 bit"], large)
    Image.fromarray(large).save(paths["PNG 1024 × 1024"])
    Image.fromarray(small).save(paths["PNG 299 × 299"])
    return paths


def synthetic(side: int) -> np.ndarray:
    rows, columns = np.mgrid[0:side, 0:side] / side
    noise = np.random.default_rng(0).normal(0, 4, (side, side))
    return np.clip(120 + 60 * np.sin(5 * columns) + 40 * np.cos(7 * rows) + noise, 0, 255).astype(np.uint8)


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["fedkim"])
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def repeated(call: Callable[[], object]) -> Callable[[], None]:
    def passes() -> None:
        for _ in range(PASSES):
            call()

    return passes


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """The least a small grey picture costs."""
    grey = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def dicom_variants(path: Path) -> dict[str, Callable[[], object]]:
    import pydicom

    def theirs() -> np.ndarray:
        return pydicom.dcmread(path).pixel_array

    return {
        "our decode only": lambda: dicom.read(path),
        "their decode only": theirs,
        "our decode + preprocessing": lambda: image.read_image(path, SIZE),
        "their decode + preprocessing": lambda: shrunk(theirs()),
    }


def png_variants(path: Path) -> dict[str, Callable[[], object]]:
    def theirs() -> np.ndarray:
        with Image.open(path) as opened:
            opened.load()
            return np.asarray(opened)

    return {
        "our decode only": lambda: picture.open_grey(path),
        "their decode only": theirs,
        "our decode + preprocessing": lambda: image.read_image(path, SIZE),
        "their decode + preprocessing": lambda: shrunk(theirs()),
    }
