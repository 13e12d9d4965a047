from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from fedkim.errors import FedkimError
from fedkim.modalities import signal
from fedkim.modalities.signal_csv import rate_of
from fedkim.modalities.signal_files import STANDARD_LEADS, Wave, in_order, read_wave

SECONDS = np.arange(0, 10, 1 / 100)
BEATS = np.sin(2 * np.pi * 1.2 * SECONDS) ** 21
LIMBS = np.stack([0.6 * BEATS + 0.02 * np.sin(9 * SECONDS), BEATS])


def write_wfdb(folder: Path, wave, leads, unit: str = "mV", rate: int = 100, gain: float = 1000.0) -> Path:
    num = len(wave)
    wfdb.wrsamp(
        "r", fs=rate, units=[unit] * num, sig_name=list(leads), p_signal=np.asarray(wave).T, fmt=["16"] * num,
        adc_gain=[gain] * num, baseline=[0] * num, write_dir=str(folder),
    )  # fmt: skip
    return folder / "r"


def write_csv(folder: Path, wave, header: str, clock: bool = False) -> Path:
    rows = np.column_stack([SECONDS, *wave]) if clock else np.column_stack(list(wave))
    lines = [",".join(f"{cell:.6f}" for cell in row) for row in rows]
    (folder / "r.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "r.csv"


def twelve() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform(0.3, 1.2, (12, 1)) * BEATS + 0.01 * generator.standard_normal((12, 1000))


def test_leads_are_found_by_name_whatever_their_order_and_case(tmp_path):
    wave, order = twelve(), np.random.default_rng(1).permutation(12)
    expected = signal.prepare(wave, 100)
    names = [STANDARD_LEADS[place].upper() for place in order]
    found = signal.read_record(write_wfdb(tmp_path, wave[order], names), leads=STANDARD_LEADS)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    standard = signal.read_record(tmp_path / "r")  # the twelve of them have one order, whoever reads them
    torch.testing.assert_close(standard, expected, rtol=0, atol=2e-3)
    few = write_wfdb(tmp_path, wave[order][:3], names[:3])
    torch.testing.assert_close(
        signal.read_record(few), signal.prepare(wave[order][:3], 100), rtol=0, atol=2e-3
    )  # as they stand


def test_limb_leads_follow_from_the_first_two_by_einthoven_and_goldberger():
    wave = in_order(Wave(what="x", values=LIMBS, rate=100, leads=("I", "II")), STANDARD_LEADS[:6])
    first, second, third, avr, avl, avf = wave.values
    np.testing.assert_allclose(first + third, second, atol=1e-12)
    np.testing.assert_allclose(avr + avl + avf, 0, atol=1e-12)
    np.testing.assert_allclose(avl, (first - third) / 2, atol=1e-12)


def test_a_missing_lead_is_refused_or_masked_and_a_mask_changes_no_other_lead():
    wave = Wave(what="x", values=twelve()[:9], rate=100, leads=STANDARD_LEADS[:9])
    with pytest.raises(FedkimError, match="no lead V4, V5, V6") as caught:
        in_order(wave, STANDARD_LEADS)
    assert caught.value.code == "E-ECG-LEADS"
    masked = signal.prepare(in_order(wave, STANDARD_LEADS, "mask").values, 100)
    assert not masked[9:].any()
    torch.testing.assert_close(masked[:9], signal.prepare(wave.values, 100))
    with pytest.raises(FedkimError, match="no lead"):
        in_order(Wave(what="x", values=LIMBS, rate=100, leads=("MLII", "V9")), STANDARD_LEADS, "mask")
    with pytest.raises(FedkimError, match="twice"):
        in_order(Wave(what="x", values=LIMBS, rate=100, leads=("I", "i")), ("I",))


def test_a_flat_lead_becomes_zeros_and_divides_nothing_by_zero():
    wave = twelve()
    wave[4] = 0.7  # an electrode that lies open: an offset, no signal
    prepared = signal.prepare(wave, 100)
    assert not prepared[4].any()
    rest = np.delete(np.arange(12), 4)
    torch.testing.assert_close(prepared[rest], signal.prepare(wave[rest], 100))
    assert prepared.isfinite().all()


def test_microvolts_and_volts_are_the_same_signal_once_they_are_declared(tmp_path):
    expected = signal.read_record(write_wfdb(tmp_path, LIMBS, ("I", "II")))
    for unit, factor in (("uV", 1e3), ("V", 1e-3)):
        path = write_wfdb(tmp_path, LIMBS * factor, ("I", "II"), unit=unit, gain=1000 / factor)
        wave = read_wave(path, 0, 10)
        np.testing.assert_allclose(wave.values, LIMBS, atol=1e-3)
        torch.testing.assert_close(signal.read_record(path), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("factor", "like"), [(1e3, "µV"), (1e-3, "V")])
def test_an_undeclared_unit_is_refused_by_its_amplitude(tmp_path, factor, like):
    with pytest.raises(FedkimError, match=f"looks like {like}") as caught:
        signal.read_record(write_wfdb(tmp_path, LIMBS * factor, ("I", "II"), gain=1000 / factor))
    assert caught.value.code == "E-ECG-AMPLITUDE"


def test_a_csv_is_the_same_signal_as_the_record_with_a_clock_or_a_declared_rate(tmp_path):
    expected = signal.read_record(write_wfdb(tmp_path, LIMBS, ("I", "II")))
    clocked = signal.read_record(write_csv(tmp_path, LIMBS, "time,I,II [mV]", clock=True))
    torch.testing.assert_close(clocked, expected, rtol=0, atol=2e-3)
    declared = signal.read_record(write_csv(tmp_path, 1000 * LIMBS, "I,II"), sampling_rate=100, units="µV")
    torch.testing.assert_close(declared, expected, rtol=0, atol=2e-3)
    mixed = signal.read_record(write_csv(tmp_path, LIMBS * [[1000], [1]], "I [uV],II [mV]"), sampling_rate=100)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-3)
    assert signal.read_signal(tmp_path / "r.csv", sampling_rate=100).keys() == {"signal"}


@pytest.mark.parametrize(
    ("header", "body", "settings", "code"),
    [
        ("I,II", None, {}, "E-ECG-RATE"),
        ("I,II", None, {"sampling_rate": 10}, "E-ECG-RATE"),
        ("I,II", None, {"sampling_rate": 200}, "E-ECG-LENGTH"),
        ("I,II", None, {"sampling_rate": 100, "start_seconds": 1.0}, "E-ECG-LENGTH"),
        ("I [kg],II", None, {"sampling_rate": 100}, "E-ECG-UNIT"),
        ("0.1,0.2", None, {"sampling_rate": 100}, "E-ECG-LEADS"),
        ("I,II", None, {"sampling_rate": 100, "leads": ("I", "V1")}, "E-ECG-LEADS"),
        ("I,II", "0.1,Schmidt\n", {"sampling_rate": 100}, "E-ECG-FORMAT"),
        ("I,II", "0.1\n", {"sampling_rate": 100}, "E-ECG-FORMAT"),
        ("I;II", "0.1;0.2\n", {"sampling_rate": 100}, "E-ECG-FORMAT"),
        ("I,II", "", {"sampling_rate": 100}, "E-ECG-FORMAT"),
        ("I,II", "0.1,0.2\n" * 1000, {"sampling_rate": 100}, "E-ECG-FLAT"),
        ("I,II", "nan,0.2\n" * 1000, {"sampling_rate": 100}, "E-ECG-GAPS"),
        ("time,I", "0,0.1\n0.01,0.1\n0.5,0.2\n", {}, "E-ECG-RATE"),
        ("time", "0\n0.01\n0.02\n", {}, "E-ECG-LEADS"),
    ],
)
def test_what_is_no_ecg_is_refused_by_code_and_no_cell_is_repeated(tmp_path, header, body, settings, code):
    path = write_csv(tmp_path, LIMBS, header)
    if body is not None:
        path.write_text(f"{header}\n{body}")
    with pytest.raises(FedkimError) as caught:
        signal.read_record(path, **settings)
    assert caught.value.code == code
    assert "Schmidt" not in str(caught.value)


def test_a_clock_that_contradicts_the_declared_rate_is_refused(tmp_path):
    with pytest.raises(FedkimError, match="the declared 500"):
        signal.read_record(write_csv(tmp_path, LIMBS, "time,I,II", clock=True), sampling_rate=500)
    with pytest.raises(FedkimError, match="the declared 500"):
        signal.read_record(write_wfdb(tmp_path, LIMBS, ("I", "II")), sampling_rate=500)


@pytest.mark.parametrize("decimals", [3, 4, 9])
@pytest.mark.parametrize("rate", [240, 256, 257.5, 360, 400, 512, 1000])
def test_rounded_times_are_even(rate, decimals):
    times = np.round(7.3 + np.arange(int(10 * rate) + 1) / rate, decimals)
    assert rate_of(times, "x") == pytest.approx(rate, abs=1e-9 if rate == int(rate) else 0.02)


def test_a_recording_with_rounded_times_is_read(tmp_path):
    seconds = np.arange(3601) / 360
    wave = np.sin(2 * np.pi * 1.2 * seconds) ** 21
    lines = [f"{when:.3f},{value:.6f}" for when, value in zip(seconds, wave)]
    (tmp_path / "r.csv").write_text("\n".join(["time,II", *lines]))
    torch.testing.assert_close(
        signal.read_record(tmp_path / "r.csv"), signal.prepare(wave[None], 360), rtol=0, atol=1e-4
    )


def test_a_clock_that_drifts_is_read():
    minutes = np.arange(300_000) / 500
    wobbling = minutes + 0.002 * np.sin(2 * np.pi * minutes / 60)
    assert rate_of(wobbling, "x") == 500
    assert rate_of(np.concatenate([minutes[:2500], 5 + np.arange(2500) / 501]), "x") == pytest.approx(500.5, abs=0.01)


@pytest.mark.parametrize("start", [0, 5.5, 15, 30.25, 50])
def test_a_window_of_a_drifting_clock_begins_when_it_was_asked_to(tmp_path, start):
    times = np.concatenate([np.arange(15_000) / 500, 30 + np.arange(15_241) / 508])  # a minute; half of it 1.6 % faster
    rows = [f"{when:.6f},{when / 100:.8f}" for when in times]  # the lead tells the time
    (tmp_path / "r.csv").write_text("\n".join(["time,II", *rows]))
    wave = read_wave(tmp_path / "r.csv", start, 10)
    assert wave.values[0, 0] * 100 == pytest.approx(start, abs=0.085)  # the last 10 s hold too few samples at its rate
    if start < 50:
        assert wave.values[0, 0] * 100 == pytest.approx(start, abs=0.003)
    assert wave.values.shape == (1, round(10 * wave.rate))


def test_a_missing_sample_of_a_single_column_is_a_gap_and_joins_nothing(tmp_path):
    cells = [f"{value:.6f}" for value in np.tile(BEATS, 2)]
    cells[1200:1210] = [""] * 10
    (tmp_path / "r.csv").write_text("\n".join(["II", *cells]) + "\n\n")
    for start, whole in ((0, True), (5, False)):
        if whole:
            assert signal.read_record(tmp_path / "r.csv", start, sampling_rate=100).isfinite().all()
            continue
        with pytest.raises(FedkimError, match="NaN or infinite"):
            signal.read_record(tmp_path / "r.csv", start, sampling_rate=100)


def test_twelve_leads_have_one_order_whatever_they_are_named_in(tmp_path):
    path = write_wfdb(tmp_path, twelve(), STANDARD_LEADS)
    assert torch.equal(signal.read_record(path, leads=STANDARD_LEADS[::-1]), signal.read_record(path))


def test_one_lead_in_another_unit_beside_eleven_is_told(tmp_path):
    wave = twelve()
    wave[6] *= 1000
    with pytest.raises(FedkimError, match=r"an amplitude over 100 mV in V1, beside 11 leads without.*µV"):
        signal.read_record(write_csv(tmp_path, wave, ",".join(STANDARD_LEADS)), sampling_rate=100)


def test_a_channel_beside_the_wanted_leads_needs_no_unit(tmp_path):
    path = write_csv(tmp_path, [*LIMBS, 5000 + BEATS], "I [mV],II [mV],PLETH [NU]")
    found = signal.read_record(path, leads=["II"], sampling_rate=100)
    torch.testing.assert_close(found, signal.prepare(LIMBS[1:], 100), rtol=0, atol=1e-4)
    derived = signal.read_record(path, leads=["aVF"], sampling_rate=100)
    torch.testing.assert_close(derived, signal.prepare((LIMBS[1] - LIMBS[0] / 2)[None], 100), rtol=0, atol=1e-4)
    with pytest.raises(FedkimError, match="lead 'PLETH', found unit 'NU'"):
        signal.read_record(path, leads=["PLETH"], sampling_rate=100)


EVEN = np.arange(3600) / 360
UNEVEN = {
    "a lost sample": np.delete(EVEN, 1800),
    "one lost at the end": np.delete(EVEN, 3598),
    "two rates": np.concatenate([EVEN[:1800], 5 + np.arange(1800) / 300]),
    "two swapped": EVEN[[*range(9), 10, 9, *range(11, 3600)]],
    "each twice": np.repeat(EVEN, 2),
    "one time": np.zeros(3600),
    "backwards": EVEN[::-1],
    "no number": np.append(EVEN, np.nan),
    "no end": np.append(EVEN, np.inf),
    "trembling": EVEN + np.random.default_rng(0).normal(0, 0.002, 3600),
}


@pytest.mark.parametrize("decimals", [3, 9])
@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_times_are_refused_however_they_are_rounded(name, decimals):
    with pytest.raises(FedkimError, match="uneven steps") as caught:
        rate_of(np.round(UNEVEN[name], decimals), "x")
    assert caught.value.code == "E-ECG-RATE"


def test_remedies_say_what_a_file_can_do_and_what_a_site_file(tmp_path):
    wave = Wave(what="x", values=twelve()[:9], rate=100, leads=STANDARD_LEADS[:9])
    with pytest.raises(FedkimError, match=r"give a file with these leads, or say in a site file .*data\.ecg\.missing"):
        in_order(wave, STANDARD_LEADS)
    with pytest.raises(FedkimError, match=r"add a column time, .*site file: data\.ecg\.sampling_rate"):
        signal.read_record(write_csv(tmp_path, LIMBS, "I,II"))
    with pytest.raises(FedkimError, match=r'say so in the file \("II \[µV\]" in a CSV\), .*site file: data\.ecg\.unit'):
        signal.read_record(write_csv(tmp_path, 1000 * LIMBS, "time,I,II", clock=True))


def test_a_saturated_amplifier_is_refused_and_a_clipped_peak_is_not(tmp_path):
    clipped = np.clip(LIMBS, -0.9, 0.9)
    signal.read_record(write_wfdb(tmp_path, clipped, ("I", "II")))
    stuck = np.clip(6 * np.sin(2 * np.pi * 0.7 * SECONDS), -2, 2)[None]
    with pytest.raises(FedkimError, match="1 of 1 leads stuck") as caught:
        signal.read_record(write_wfdb(tmp_path, stuck, ("I",)))
    assert caught.value.code == "E-ECG-SATURATED"


def test_absent_and_broken_files_have_codes(tmp_path):
    for name, code in (("absent", "E-FILE-MISSING"), ("absent.csv", "E-FILE-MISSING")):
        with pytest.raises(FedkimError) as caught:
            signal.read_record(tmp_path / name)
        assert caught.value.code == code
    (tmp_path / "latin.csv").write_bytes("Größe,II\n".encode("latin-1"))
    with pytest.raises(FedkimError, match="UnicodeDecodeError"):
        signal.read_record(tmp_path / "latin.csv")


@pytest.mark.parametrize("setting", ["start_seconds", "sampling_rate"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_window_or_a_rate_that_is_no_number_is_refused(tmp_path, setting, number):
    for path in (write_csv(tmp_path, LIMBS, "time,I,II", clock=True), write_wfdb(tmp_path, LIMBS, ("I", "II"))):
        with pytest.raises(FedkimError, match="expected a finite number"):
            signal.read_record(path, **{setting: number})
        for beyond in (1e308, -1e308):
            with pytest.raises(FedkimError, match=r"found 10\.0 s, expected at least"):
                signal.read_record(path, start_seconds=beyond)
