"""Fingerprints: what a copy looks like after all that happens to files, and what two patients look like beside it."""

import io

import numpy as np
import pytest
import tiny_set
import torch
from PIL import Image
from scipy.signal import resample_poly

from fedkim.data.fingerprints import LIKENESS, digest, find_duplicates, likeness
from fedkim.data.sources import pack
from fedkim.modalities import image, signal


def prepared(pixels):
    return image.prepare(np.asarray(pixels, dtype=np.float32), 64)


def jpeg(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


WAYS = {
    "as JPEG": lambda picture: jpeg(picture, 60),
    "half the size": lambda picture: picture.resize((96, 96), Image.Resampling.BILINEAR),
    "larger": lambda picture: picture.resize((299, 299), Image.Resampling.BICUBIC),
    "smaller, as JPEG": lambda picture: jpeg(picture.resize((112, 112), Image.Resampling.BILINEAR), 75),
    "brighter": lambda picture: picture.point(lambda grey: 30 + 0.8 * grey),
    "another gamma": lambda picture: picture.point(lambda grey: 255 * (grey / 255) ** 0.9),
    "two bytes a pixel": lambda picture: np.asarray(picture, dtype=np.uint16) * 257,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_known_again(way):
    for number in range(5):
        picture = Image.fromarray(tiny_set.film(number, side=192))
        coarse, fine = likeness(prepared(picture), prepared(WAYS[way](picture)), "image")
        assert coarse > LIKENESS["image"].coarse
        assert fine > LIKENESS["image"].fine


@pytest.mark.parametrize("rate", [100, 250, 360, 500, 1000])
def test_a_wave_is_known_again_at_any_rate_and_gain(rate):
    for number in range(5):
        original = tiny_set.wave(number, rate=500)
        other = resample_poly(original, rate, 500, axis=1) * 0.4
        coarse, fine = likeness(signal.prepare(original, 500), signal.prepare(other, rate), "signal")
        assert coarse > LIKENESS["signal"].coarse
        assert fine > LIKENESS["signal"].fine


def test_pairs_lead_to_the_first_of_their_kind_across_chunks(monkeypatch):
    monkeypatch.setattr("fedkim.data.fingerprints.CHUNK", 7)
    tensors = [prepared(tiny_set.film(number)) for number in range(40)]
    copies = {12: 3, 25: 3, 39: 38, 30: 1}
    for copy, original in copies.items():
        picture = Image.fromarray(tiny_set.film(original))
        tensors[copy] = tensors[original].clone() if copy == 25 else prepared(jpeg(picture, 70))
    found = {(pair.first, pair.second, pair.exact) for pair in find_duplicates(tensors, "image")}
    assert found == {(3, 12, False), (3, 25, True), (38, 39, False), (1, 30, False)}


def test_inputs_of_other_kinds_are_the_same_if_equal_and_not_nearly_empty():
    tables = [torch.arange(50.0), torch.arange(50.0), torch.arange(50.0) + 1e-3, torch.zeros(50), torch.zeros(50)]
    assert [(pair.first, pair.second) for pair in find_duplicates(tables, "series")] == [(0, 1)]
    assert digest(torch.zeros(2, 3)) != digest(torch.zeros(3, 2))


@pytest.mark.data_pack
def test_limits_lie_between_copies_and_other_patients_of_the_real_data_pack(data_pack):
    """Of all pairs of films, and of all pairs of windows, of two patients none comes near to both limits."""
    data = pack.load(pack.PackSettings(root=data_pack, fold=0))
    for modality, margin in (("image", 0.01), ("signal", 0.05)):
        known, tensors, patients = set(), [], []
        for sample in data:
            if modality in sample.inputs and sample.inputs[modality].data_ptr() not in known:
                known.add(sample.inputs[modality].data_ptr())
                tensors.append(sample.inputs[modality])
                patients.append(sample.patient)
        assert len(tensors) >= 1000
        pairs = find_duplicates(tensors, modality)
        assert not [pair for pair in pairs if patients[pair.first] != patients[pair.second]]
        limits = LIKENESS[modality]
        looser = {modality: type(limits)(coarse=limits.coarse - margin, fine=limits.fine - margin)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fedkim.data.fingerprints.LIKENESS", looser)
            near = find_duplicates(tensors, modality)
        assert not [pair for pair in near if patients[pair.first] != patients[pair.second]]
