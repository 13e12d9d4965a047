import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.modalities import signal

SECONDS = np.arange(0, 12, 1 / 360)
WAVE = np.stack([np.sin(2 * np.pi * 1.2 * SECONDS) ** 9, 0.3 * np.cos(2 * np.pi * 2.0 * SECONDS)])


def write_record(folder: Path, wave: np.ndarray, rate: int = 360) -> Path:
    wfdb = pytest.importorskip("wfdb")
    leads = [f"lead{number}" for number in range(len(wave))]
    wfdb.wrsamp(
        "r",
        fs=rate,
        units=["mV"] * len(wave),
        sig_name=leads,
        p_signal=wave.T,
        fmt=["16"] * len(wave),
        write_dir=str(folder),
    )
    return folder / "r"


def test_ten_seconds_become_a_thousand_samples_free_of_units():
    tensor = signal.prepare(WAVE, 360)
    assert tensor.shape == (2, 1000)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor, signal.prepare(1000 * WAVE + 5, 360), rtol=0, atol=1e-5)
    assert tensor.abs().quantile(0.99) == pytest.approx(1, abs=0.02)


def test_a_wave_at_the_canonical_rate_is_not_resampled():
    wave = np.sin(np.arange(1000) / 9)[None]
    centred = wave - np.median(wave)
    expected = centred / np.percentile(np.abs(centred), 99)
    np.testing.assert_allclose(signal.prepare(wave, 100).numpy(), expected, atol=1e-6)


def test_what_the_new_rate_cannot_hold_is_filtered_and_not_folded_back():
    slow, fast = np.sin(2 * np.pi * 3 * SECONDS), np.sin(2 * np.pi * 97 * SECONDS)  # 97 Hz would fold to 3 Hz
    difference = signal.prepare((slow + fast)[None], 360) - signal.prepare(slow[None], 360)
    assert difference[:, 20:-20].abs().max() < 0.05


def test_a_beat_keeps_its_place_in_time():
    wave = np.zeros((1, 3600))
    wave[0, 1800 - 7 : 1800 + 8] = np.hanning(15)  # a spike at 5 s
    wave[0] += 0.01 * np.sin(np.arange(3600) / 30)
    assert abs(int(signal.prepare(wave, 360)[0].argmax()) - 500) <= 1


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (WAVE[:, :3000], r"8\.33 s, expected 10 s"),
        (np.where(SECONDS > 3, np.nan, 1.0)[None], "NaN"),
        (np.ones((2, 3600)), "flat line"),
        (WAVE[0], "shape"),
    ],
)
def test_bad_waves_are_named(wave, message):
    with pytest.raises(FedkimError, match=message):
        signal.prepare(wave, 360)


def test_reading_a_record_equals_preparing_its_samples(tmp_path):
    record = write_record(tmp_path, WAVE)
    expected = signal.prepare(WAVE[:, 360 : 360 + 3600], 360)
    for path in (record, f"{record}.hea"):
        torch.testing.assert_close(signal.read_record(path, start_seconds=1.0), expected, rtol=0, atol=1e-3)


def test_bad_records_are_named(tmp_path):
    record = write_record(tmp_path, WAVE)
    with pytest.raises(FedkimError, match=r"12\.0 s, expected at least 13 s"):
        signal.read_record(record, start_seconds=3)
    with pytest.raises(FedkimError, match="expected at least"):
        signal.read_record(record, start_seconds=-1)
    with pytest.raises(FedkimError, match="no header file"):
        signal.read_record(tmp_path / "other")
    (tmp_path / "r.dat").unlink()
    with pytest.raises(FedkimError, match=r"r, found unreadable"):
        signal.read_record(record)
    (tmp_path / "r.hea").write_text("nonsense")
    with pytest.raises(FedkimError, match=r"r, found unreadable"):
        signal.read_record(record)


def test_without_wfdb_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(FedkimError, match=r"pip install '\.\[ecg\]'"):
        signal.read_record(tmp_path / "r")


def test_augmentation_keeps_the_shape_of_beats_up_to_gain_sign_and_start():
    batch = signal.prepare(WAVE[:1], 360).expand(64, 1, 1000)
    changed = signal.augment(batch, torch.Generator().manual_seed(1))
    assert changed.shape == batch.shape
    spectrum = torch.fft.rfft(changed).abs().mean(0)[0], torch.fft.rfft(batch).abs().mean(0)[0]
    assert torch.corrcoef(torch.stack(spectrum))[0, 1] > 0.95
    flipped = (changed.flatten(1).abs().max(1).values != changed.flatten(1).max(1).values).float().mean()
    assert 0.1 < flipped < 0.45
