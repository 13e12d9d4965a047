import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedkim.errors import FedkimError
from fedkim.modalities import image


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[0:96, 0:96] / 96
    return np.exp(-8 * ((x - 0.4) ** 2 + (y - 0.6) ** 2)) + 0.2 * x


def save(path: Path, array: np.ndarray, mode: str) -> Path:
    picture = Image.fromarray(array)
    assert picture.mode == mode
    picture.save(path)
    return path


def test_a_picture_becomes_one_standardised_grey_square(pixels):
    tensor = image.prepare(pixels, 64)
    assert tensor.shape == (1, 64, 64)
    assert tensor.dtype == torch.float32
    assert abs(tensor.mean().item()) < 1e-5
    assert abs(tensor.std(correction=0).item() - 1) < 1e-5


def test_exposure_and_contrast_of_the_scanner_do_not_matter(pixels):
    torch.testing.assert_close(image.prepare(pixels, 64), image.prepare(300 * pixels + 1000, 64), rtol=0, atol=1e-3)


def test_a_bright_marker_does_not_set_the_contrast(pixels):
    marked = pixels.copy()
    marked[:4, :8] = 50
    difference = (image.prepare(marked, 64) - image.prepare(pixels, 64))[0, 8:]
    assert difference.abs().max() < 0.2


def test_8_bit_16_bit_and_colour_files_agree(pixels, tmp_path):
    grey = np.round(255 * (pixels - pixels.min()) / np.ptp(pixels))
    eight = save(tmp_path / "8.png", grey.astype(np.uint8), "L")
    sixteen = save(tmp_path / "16.png", (grey * 257).astype(np.uint16), "I;16")
    colour = save(tmp_path / "rgb.png", np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), "RGB")
    expected = image.read_image(eight)
    torch.testing.assert_close(image.read_image(sixteen), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(image.read_image(colour), expected, rtol=0, atol=1e-4)


def test_colour_counts_by_luminance(tmp_path):
    left_green_right_blue = np.zeros((64, 64, 3), np.uint8)
    left_green_right_blue[:, :32, 1] = 255
    left_green_right_blue[:, 32:, 2] = 255
    tensor = image.read_image(save(tmp_path / "c.png", left_green_right_blue, "RGB"), 32)
    assert tensor[0, :, :16].mean() > tensor[0, :, 16:].mean()


def test_reading_a_file_equals_preparing_its_pixels(pixels, tmp_path):
    grey = np.round(255 * pixels / pixels.max()).astype(np.uint8)
    path = save(tmp_path / "a.png", grey, "L")
    torch.testing.assert_close(image.read_image(path, 48), image.prepare(grey, 48), rtol=0, atol=1e-5)


def test_a_wide_picture_keeps_its_proportions(pixels):
    tensor = image.prepare(pixels[24:72], 64)  # 48 × 96
    assert (tensor[0, :16] == tensor.min()).all()
    assert (tensor[0, 48:] == tensor.min()).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((64, 64), 7.0), "one constant grey"),
        (np.where(np.eye(64) > 0, np.nan, 1.0), "NaN"),
        (np.ones((8, 8)), "8 × 8 pixels, expected at least 32"),
        (np.ones((3, 64, 64)), "shape"),
    ],
)
def test_bad_pixels_are_named(array, message):
    with pytest.raises(FedkimError, match=message):
        image.prepare(array, 64)


def test_bad_files_are_named(tmp_path, pixels):
    with pytest.raises(FedkimError, match=r"missing\.png.*no such file"):
        image.read_image(tmp_path / "missing.png")
    text = tmp_path / "text.png"
    text.write_text("hello")
    with pytest.raises(FedkimError, match=r"text\.png.*no picture format"):
        image.read_image(text)
    whole = save(tmp_path / "whole.png", (255 * pixels / pixels.max()).astype(np.uint8), "L")
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(FedkimError, match=r"cut\.png.*unreadable"):
        image.read_image(cut)
    flat = save(tmp_path / "flat.png", np.full((64, 64), 9, np.uint8), "L")
    with pytest.raises(FedkimError, match=r"flat\.png.*constant"):
        image.read_image(flat)


def test_augmentation_moves_every_picture_a_little_and_by_its_own_amount(pixels):
    batch = image.prepare(pixels, 64).expand(8, 1, 64, 64)
    moved = image.augment(batch, torch.Generator().manual_seed(0))
    assert moved.shape == batch.shape
    mirrored = batch.flip(3)
    nearest = torch.minimum((moved - batch).abs().mean((1, 2, 3)), (moved - mirrored).abs().mean((1, 2, 3)))
    assert (nearest > 1e-3).all()
    assert (nearest < 0.5).all()
    assert (moved[0] - moved[1]).abs().max() > 0.05
    assert torch.equal(moved, image.augment(batch, torch.Generator().manual_seed(0)))


def test_tokens_form_the_squarest_grid():
    assert [image.token_grid(n) for n in (1, 4, 7, 8, 12)] == [(1, 1), (2, 2), (1, 7), (2, 4), (3, 4)]
    assert math.prod(image.token_grid(198)) == 198


@pytest.mark.parametrize(("mode", "kind"), [("L", np.uint8), ("I;16", np.uint16), ("F", np.float32)])
def test_dense_is_bright_whatever_number_a_tiff_has_for_white(tmp_path, mode, kind):
    pixels = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    top = {"L": 255, "I;16": 65535, "F": 1}[mode]
    plain, white_is_zero = tmp_path / "plain.tif", tmp_path / "white.tif"
    write_tiff(plain, (pixels * top).astype(kind), photometric=1)
    write_tiff(white_is_zero, ((1 - pixels) * top).astype(kind), photometric=0)
    torch.testing.assert_close(image.read_image(white_is_zero), image.read_image(plain), rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", [np.int8, np.uint32, np.int16, np.int32])
def test_a_tiffs_numbers_are_read_as_they_are_or_refused(tmp_path, kind):
    pixels = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    limits = np.iinfo(kind)
    write_tiff(tmp_path / "x.tif", (limits.min + pixels * (float(limits.max) - limits.min)).astype(kind), photometric=1)
    if kind in (np.int8, np.uint32):  # Pillow wraps these round
        with pytest.raises(FedkimError, match=r"samples of (8|32) bits"):
            image.read_image(tmp_path / "x.tif")
        return
    found = image.read_image(tmp_path / "x.tif").flatten().numpy()
    expected = image.prepare(pixels.astype(np.float32), len(image.read_image(tmp_path / "x.tif")[0])).flatten().numpy()
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def write_tiff(path, pixels, *, photometric):
    """One uncompressed strip, little-endian, with just the tags that a reader needs."""
    height, width = pixels.shape
    data = pixels.tobytes()
    kind = {"f": 3, "i": 2, "u": 1}[pixels.dtype.kind]
    tags = [(256, width), (257, height), (258, 8 * pixels.itemsize), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(data)), (339, kind)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    offset = 8 + len(data)
    path.write_bytes(b"II*\0" + struct.pack("<I", offset) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4)


def test_a_photographed_film_is_turned_as_its_file_says(tmp_path):
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[:20] = 200
    upright, lying = tmp_path / "upright.png", tmp_path / "lying.png"
    Image.fromarray(pixels).save(upright)
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side: turn a quarter clockwise
    Image.fromarray(np.rot90(pixels)).save(lying, exif=exif)
    torch.testing.assert_close(image.read_image(lying), image.read_image(upright))
    Image.fromarray(pixels).save(lying, exif=b"Exif\0\0" + bytes(40))  # a de-identified file: zeros where the tags were
    torch.testing.assert_close(image.read_image(lying), image.read_image(upright))
