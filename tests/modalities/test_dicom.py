"""DICOM files of every kind as one canonical picture, or refused by a code before anything is decoded."""

import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from fedkim.errors import FedkimError
from fedkim.modalities import dicom, image, picture
from fedkim.run.inputs import Window, patient_inputs
from fedkim.tasks import TASKS
from fixtures.pictures import chest, write_dicom

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture(scope="module")
def pixels():
    return chest(np.random.default_rng(0), marked=True, side=96)


@pytest.fixture(scope="module")
def expected(pixels):
    return image.prepare(pixels, 48)


def close(path, expected, atol=1e-5, **settings):
    torch.testing.assert_close(image.read_image(path, 48, **settings), expected, rtol=0, atol=atol)


def refused(path, code, **settings):
    with pytest.raises(FedkimError) as caught:
        image.read_image(path, 48, **settings)
    assert caught.value.code == code
    return str(caught.value)


def test_a_dicom_file_is_told_by_its_content_and_gives_what_a_png_of_its_pixels_gives(pixels, expected, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    named_wrongly = write_dicom(tmp_path / "b.png", pixels)
    assert torch.equal(image.read_image(tmp_path / "a.png", 48), image.read(tmp_path / "a.png", size=48)["image"])
    close(tmp_path / "a.png", expected)
    close(named_wrongly, expected)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_byte_orders_and_headers_give_the_same_picture(pixels, expected, tmp_path, syntax):
    close(write_dicom(tmp_path / "x.dcm", pixels, syntax=syntax), expected)


def test_monochrome1_is_turned_round(pixels, expected, tmp_path):
    close(write_dicom(tmp_path / "x.dcm", 255 - pixels, PhotometricInterpretation="MONOCHROME1"), expected)


def test_signed_values_with_slope_and_intercept_come_out_in_their_units(pixels, tmp_path):
    stored = pixels.astype(np.int16) - 1000
    path = write_dicom(tmp_path / "x.dcm", stored, RescaleSlope="2.5", RescaleIntercept="-10")
    np.testing.assert_allclose(dicom.read(path), stored * 2.5 - 10)
    np.testing.assert_array_equal(dicom.read(write_dicom(tmp_path / "y.dcm", stored)), stored)


def test_a_negative_slope_turns_the_picture_round(pixels, expected, tmp_path):
    close(write_dicom(tmp_path / "x.dcm", 255 - pixels, RescaleSlope="-1", RescaleIntercept="255"), expected)


def test_twelve_bits_in_sixteen_are_read(pixels, expected, tmp_path):
    close(write_dicom(tmp_path / "x.dcm", pixels.astype(np.uint16) * 16, BitsStored=12, HighBit=11), expected)


def test_colour_counts_by_luminance_as_in_other_formats(pixels, tmp_path):
    colour = np.stack([pixels, pixels // 2, 255 - pixels], axis=-1)
    Image.fromarray(colour, "RGB").save(tmp_path / "a.png")
    close(write_dicom(tmp_path / "x.dcm", colour), image.read_image(tmp_path / "a.png", 48), atol=0.02)


def test_planes_of_colour_give_what_interleaved_colour_gives(pixels, tmp_path):
    colour = np.stack([pixels, pixels // 2, pixels], axis=-1)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes()
    path = write_dicom(tmp_path / "x.dcm", colour, PlanarConfiguration=1, PixelData=planes)
    close(path, image.read_image(write_dicom(tmp_path / "y.dcm", colour), 48))


def test_padding_is_as_dark_as_the_darkest_of_the_rest(pixels, tmp_path):
    stored = pixels.astype(np.int16)
    stored[:, :20] = -2000
    path = write_dicom(tmp_path / "x.dcm", stored, PixelPaddingValue=-2000)
    read = dicom.read(path)
    assert read.min() == pixels[:, 20:].min() == read[0, 0]
    np.testing.assert_array_equal(read[:, 20:], pixels[:, 20:])
    inverted = write_dicom(tmp_path / "y.dcm", stored, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    turned = dicom.read(inverted)
    assert turned[0, 0] == turned[:, 20:].min() == -float(pixels[:, 20:].max())


def test_several_frames_are_refused_until_one_is_declared(pixels, expected, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", np.stack([pixels[::-1], pixels[:, ::-1], pixels]))
    assert "3 frames, expected one" in refused(path, "E-DCM-FRAMES")
    close(path, image.prepare(np.ascontiguousarray(pixels[::-1]), 48), frames="first")
    close(path, image.prepare(np.ascontiguousarray(pixels[:, ::-1]), 48), frames="middle")
    with pytest.raises(FedkimError, match="unknown choice of frames 'last'"):
        image.read_image(path, 48, frames="last")


def test_one_frame_that_says_so_needs_no_declaration(pixels, expected, tmp_path):
    close(write_dicom(tmp_path / "x.dcm", pixels, NumberOfFrames=1), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit])
def test_compressed_pixels_are_decoded(pixels, expected, tmp_path, syntax):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "x.dcm", pixels))
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    else:
        Image.fromarray(pixels).save(tmp_path / "x.jpg", quality=95)
        dataset.PixelData = pydicom.encaps.encapsulate([(tmp_path / "x.jpg").read_bytes()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "y.dcm")
    close(tmp_path / "y.dcm", expected, atol=1e-5 if syntax == RLELossless else 0.2)


def test_a_compressed_picture_of_another_size_than_its_header_says_is_refused(pixels, tmp_path):
    for side in (64, 128):
        Image.fromarray(np.resize(pixels, (side, side))).save(tmp_path / "x.jpg")
        dataset = pydicom.dcmread(write_dicom(tmp_path / "x.dcm", pixels))
        dataset.PixelData = pydicom.encaps.encapsulate([(tmp_path / "x.jpg").read_bytes()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.save_as(tmp_path / "y.dcm")
        refused(tmp_path / "y.dcm", "E-DCM-UNREADABLE")


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"Rows": 97}, "E-DCM-LENGTH"),
        ({"Columns": 95}, "E-DCM-LENGTH"),
        ({"Rows": 60_000, "Columns": 60_000}, "E-DCM-TOO-LARGE"),
        ({"Rows": 8_001, "Columns": 8_000}, "E-DCM-TOO-LARGE"),
        ({"Rows": 0}, "E-DCM-HEADER"),
        ({"Columns": None}, "E-DCM-HEADER"),
        ({"BitsAllocated": 12}, "E-DCM-HEADER"),
        ({"SamplesPerPixel": 4}, "E-DCM-HEADER"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1"}, "E-DCM-HEADER"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "E-DCM-UNREADABLE"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_its_code(pixels, tmp_path, elements, code):
    told = refused(write_dicom(tmp_path / "x.dcm", pixels, **elements), code)
    assert "Synthetic" not in told
    assert len(told.splitlines()) == 1


def test_a_lying_header_allocates_nothing(pixels, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", pixels, Rows=60_000, Columns=60_000)
    tracemalloc.start()
    try:
        refused(path, "E-DCM-TOO-LARGE")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # the header asks for 3.4 GiB


def test_a_large_file_is_judged_by_its_header_alone(tmp_path, monkeypatch, pixels):
    path = write_dicom(tmp_path / "x.dcm", pixels, Rows=8_001, Columns=8_000)
    monkeypatch.setattr(dicom, "_LARGE_FILE", 1000)
    read = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda path, **options: read(path, **(options | {"stop_before_pixels": True}))
    )
    refused(path, "E-DCM-TOO-LARGE")


def test_a_file_without_pixels_is_told_from_a_waveform(pixels, tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "x.dcm", pixels))
    del dataset.PixelData
    dataset.save_as(tmp_path / "y.dcm")
    refused(tmp_path / "y.dcm", "E-DCM-NO-PIXELS")
    refused(SHIPPED / "waveform_ecg.dcm", "E-DCM-WAVEFORM")
    refused(SHIPPED / "rtplan.dcm", "E-DCM-NO-PIXELS")


@pytest.mark.parametrize("kept", [133, 200, 400, 600, 2000, 6000, 9000])
def test_a_file_cut_short_anywhere_is_refused(pixels, tmp_path, kept):
    whole = write_dicom(tmp_path / "x.dcm", pixels)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(FedkimError) as caught:
        image.read_image(cut, 48)
    assert caught.value.code in ("E-DCM-UNREADABLE", "E-DCM-NO-PIXELS", "E-DCM-HEADER", "E-DCM-LENGTH")


def test_what_calls_itself_dicom_by_name_alone_is_no_picture(tmp_path):
    path = tmp_path / "x.dcm"
    path.write_bytes(b"\0" * 4000)
    refused(path, "E-IMG-FORMAT")
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 4000)
    with pytest.raises(FedkimError) as caught:
        image.read_image(path)
    assert caught.value.code.startswith("E-DCM-")


def test_a_folder_and_an_absent_file_are_told_apart(tmp_path):
    refused(tmp_path, "E-IMG-FORMAT")
    refused(tmp_path / "x.dcm", "E-IMG-MISSING")
    with pytest.raises(FedkimError, match="no such file"):
        dicom.header(tmp_path / "x.dcm", "ViewPosition")


def test_a_header_gives_text_and_nothing_for_what_it_lacks(pixels, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", pixels, ViewPosition="AP")
    assert dicom.header(path, "ViewPosition", "Laterality", "Rows") == {
        "ViewPosition": "AP",
        "Laterality": "",
        "Rows": "96",
    }


READS = {
    "693_J2KI.dcm", "CT_small.dcm", "ExplVR_BigEnd.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "MR_small.dcm",
    "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_padded.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "examples_jpeg2k.dcm", "examples_overlay.dcm", "examples_palette.dcm", "examples_rgb_color.dcm", "image_dfl.dcm",
    "liver_1frame.dcm",
}  # fmt: skip
REFUSED = {
    "MR_truncated.dcm": "E-DCM-LENGTH",
    "JPGExtended.dcm": "E-DCM-SYNTAX",
    "MR_small_jpeg_ls_lossless.dcm": "E-DCM-SYNTAX",
    "SC_rgb_jpeg_gdcm.dcm": "E-DCM-SYNTAX",
    "SC_rgb_rle_2frame.dcm": "E-DCM-FRAMES",
    "examples_ybr_color.dcm": "E-DCM-FRAMES",
    "rtdose.dcm": "E-DCM-FRAMES",
    "meta_missing_tsyntax.dcm": "E-DCM-HEADER",
    "test-SR.dcm": "E-DCM-NO-PIXELS",
    "no_meta.dcm": "E-IMG-FORMAT",
    "SC_rgb_small_odd.dcm": "E-IMG-TOO-SMALL",
}


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.dcm")))
def test_each_of_pydicoms_own_files_is_read_or_refused_by_a_code(name):
    try:
        tensor, code = image.read_image(SHIPPED / name), ""
    except FedkimError as error:
        tensor, code = None, error.code
    if tensor is not None:
        assert REFUSED.get(name, "E-DCM-SYNTAX") == "E-DCM-SYNTAX"  # where a decoder for it is installed
        assert tensor.shape == (1, 64, 64)
        assert tensor.isfinite().all()
    else:
        assert name not in READS
        assert code == REFUSED.get(name, code)
        assert code.startswith(("E-DCM-", "E-IMG-"))


def test_the_same_slice_in_five_encodings_is_the_same_picture():
    plain = dicom.read(SHIPPED / "MR_small.dcm")
    for name in ("RLE", "bigendian", "implicit", "jp2klossless", "padded"):
        np.testing.assert_array_equal(dicom.read(SHIPPED / f"MR_small_{name}.dcm"), plain)


def test_a_frame_of_a_compressed_file_is_the_one_declared():
    path = SHIPPED / "examples_ybr_color.dcm"
    frames = pydicom.dcmread(path).pixel_array
    for choice, index in (("first", 0), ("middle", 15)):
        grey = frames[index].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        np.testing.assert_allclose(dicom.read(path, choice), grey, atol=0.01)


def test_several_frames_of_a_tiff_are_refused_until_one_is_declared(pixels, tmp_path):
    first, second = Image.fromarray(pixels), Image.fromarray(np.ascontiguousarray(pixels[::-1]))
    first.save(tmp_path / "x.tiff", save_all=True, append_images=[second, first])
    refused(tmp_path / "x.tiff", "E-IMG-FRAMES")
    with pytest.raises(FedkimError, match=r"give a single frame; in a site file data\.image\.frames ="):
        image.read_image(tmp_path / "x.tiff")
    close(tmp_path / "x.tiff", image.prepare(np.ascontiguousarray(pixels[::-1]), 48), frames="middle")


def test_a_picture_of_more_than_64_megapixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("L", (200, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(dicom, "MAX_PIXELS", 19_999)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    refused(tmp_path / "x.png", "E-IMG-TOO-LARGE")


def png_that_claims(path, width, height):
    Image.new("L", (64, 64)).save(path)
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = path.read_bytes()
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    return path


@pytest.mark.parametrize(("side", "found"), [(8_100, "8100 × 8100"), (9_800, "9800 × 9800"), (60_000, "3,600,000,000")])
def test_however_large_a_picture_claims_to_be_it_is_told_in_our_words_alone(side, found, tmp_path):
    path = png_that_claims(tmp_path / "x.png", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FedkimError, match=f"found {found} pixels, expected at most 64 million; shrink") as caught:
            image.read_image(path)
    assert caught.value.code == "E-IMG-TOO-LARGE"


def test_other_formats_decoders_are_never_started(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "x.gif")
    refused(tmp_path / "x.gif", "E-IMG-FORMAT")


def test_one_bad_pixel_anywhere_is_found():
    for place in ((0, 0), (0, 149), (99, 0), (57, 83)):
        for bad in (np.nan, np.inf):
            values = np.random.default_rng(0).random((100, 150))
            values[place] = bad
            for size in (33, 64, 224):
                with pytest.raises(FedkimError, match="NaN or infinite"):
                    image.prepare(values, size)


def test_percentiles_are_numpys_to_the_bit():
    generator = np.random.default_rng(0)
    for num in (32 * 32, 64 * 64, 33 * 57):
        values = generator.random(num).astype(np.float32) * 4000
        assert image._percentiles(values) == list(np.percentile(values.astype(np.float64), (1, 99)))


def test_eight_bits_become_shares_of_255_to_the_bit(tmp_path):
    ramp = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(picture.open_grey(tmp_path / "x.png")), ramp / np.float32(255))


def test_predict_reads_a_dicom_file_as_training_does(pixels, tmp_path):
    path = write_dicom(tmp_path / "x.dcm", pixels)
    (read,) = patient_inputs(
        TASKS["covid"], {"image": path}, Window(), image_size=64, shapes={"image": (1, 64, 64)}
    ).values()
    assert torch.equal(read, image.read(path, size=64)["image"])


def test_without_pydicom_the_extra_is_named(pixels, tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "x.dcm", pixels)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(FedkimError, match=r"\.\[imaging\]"):
        image.read_image(path)
