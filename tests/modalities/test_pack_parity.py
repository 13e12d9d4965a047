"""What ``predict`` reads from a file is, to the last bit that matters, what training and evaluation saw."""

import pytest
import torch

from fedkim.data.sources import pack
from fedkim.modalities import image, series, signal

pytestmark = pytest.mark.data_pack


@pytest.fixture(scope="module")
def dataset(data_pack):
    return pack.load(pack.PackSettings(root=data_pack, fold=0))


def test_an_image_file_reads_as_in_the_data_set(dataset, data_pack):
    sample = next(sample for sample in dataset.split("test") if "image" in sample.inputs)
    path = data_pack / "cxr/nih/images" / f"{sample.id.split('/')[1]}.png"
    torch.testing.assert_close(image.read_image(path, 64), sample.inputs["image"], rtol=0, atol=1e-6)


def test_a_record_reads_as_in_the_data_set(dataset, data_pack):
    sample = next(s for s in dataset.split("test") if "signal" in s.inputs and s.id.endswith("/007"))
    _, record, window = sample.id.split("/")
    wave = signal.read_record(data_pack / "ecg/mitbih" / record, start_seconds=10.0 * int(window))
    torch.testing.assert_close(wave, sample.inputs["signal"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("task", "folder"), [("icu_mortality", "mortality24"), ("aki", "aki")])
def test_a_table_reads_as_in_the_data_set(dataset, data_pack, task, folder):
    sample = next(s for s in dataset.split("test") if task in s.labels)
    source, stay, name = sample.id.split("/")
    until_hour = int(name.split("@")[1]) if "@" in name else None
    path = data_pack / "icu/yaib_demo" / folder / f"{source}_demo" / "dyn.parquet"
    tensors = series.read_table(path, stay=stay, until_hour=until_hour)
    assert set(tensors) == set(sample.inputs)
    for modality, tensor in tensors.items():
        torch.testing.assert_close(tensor, sample.inputs[modality], rtol=0, atol=1e-6)
