"""Numbers that belong to the preprocessing's version: if one of these tests fails, raise ``Modality.preprocessing``.

Exported encoders carry the version they were trained with, and are refused by a package whose preprocessing differs.
"""

import numpy as np
import pytest
import torch

from fedkim.modalities import MODALITIES, image, series, signal

HEIGHT, WIDTH = 90, 70


def picture():
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return image.prepare((np.sin(rows / 7) + np.cos(columns / 5) + rows / 50).astype(np.float32), size=32)


def wave():
    seconds = np.arange(3600) / 360
    return signal.prepare(np.stack([np.sin(7 * seconds) + 0.1 * seconds, np.cos(11 * seconds) ** 5]), 360)


def stay(group):
    concepts = series.CONCEPTS[group]
    values = np.full((24, len(concepts)), np.nan)
    for column, concept in enumerate(concepts):
        values[column % 5 :: 3, column] = concept.low + 0.3 * (concept.high - concept.low)
    return series.prepare_values(values, concepts)


MADE = {"image": picture, "signal": wave, **{group: (lambda group=group: stay(group)) for group in series.CONCEPTS}}
PINNED = {
    "image": (1, -18.43498),
    "signal": (1, -0.64733),
    "vitals": (1, -33.51916),
    "labs": (1, -25.30911),
    "inputs": (1, 1.05611),
    "outputs": (1, 0.52702),
}
"""By modality: version, and the dot product of the prepared tensor with a fixed wave."""


@pytest.mark.parametrize("name", MADE)
def test_what_the_preprocessing_gives_belongs_to_its_version(name):
    prepared = MADE[name]().double().flatten()
    probe = torch.sin(torch.arange(len(prepared), dtype=torch.float64) ** 1.1)
    version, expected = PINNED[name]
    assert MODALITIES[name].preprocessing == version
    assert float(prepared @ probe) == pytest.approx(expected, rel=1e-4, abs=1e-3)
