"""The files of a row, read by declared rules into canonical tensors; no error of theirs repeats a path or a value.

These are the functions that :class:`~fedkim.data.record.Input` carries: a module's own, with plain settings, so that
worker processes can call them and a cache can be keyed by them. What they add to ``fedkim.modalities`` is confinement, the
declared rates and units, and silence about names.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fedkim.data.findings import Findings
from fedkim.data.hospital.stays import Layout, read_stays
from fedkim.data.hospital.table import read_table
from fedkim.errors import FedkimError
from fedkim.modalities.image import read_image
from fedkim.modalities.signal import SECONDS, prepare, read_record

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The standard order; leads of other names keep the file's."""
_PER_MILLIVOLT = {"mV": 1.0, "µV": 1000.0, "uV": 1000.0}
MOST_SAMPLES = 10_000_000
"""Numbers of one CSV ECG."""


def read_image_input(path: Path, *, size: int, frames: str = "refuse") -> Mapping[str, Tensor]:
    """An image file as ``{"image": [1, size, size]}``."""
    try:
        settings: dict[str, Any] = {} if frames == "refuse" else {"frames": frames}
        return {"image": read_image(path, size, **settings)}
    except FedkimError as error:
        raise _quiet(error, path, "an image", "E-IMG") from None


def read_ecg_input(path: Path, *, sampling_rate: float, unit: str, start: float) -> Mapping[str, Tensor]:
    """An ECG file, WFDB or CSV, as ``{"signal": [leads, 1000]}``."""
    try:
        if path.suffix.lower() == ".csv":
            return {"signal": _from_csv(path, sampling_rate, unit, start)}
        _check_header(path, sampling_rate)
        return {"signal": read_record(path, start_seconds=start)}
    except FedkimError as error:
        raise _quiet(error, path, "an ECG", "E-ECG") from None


def read_series_input(path: Path, *, stay: str, until_hour: int, layout: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """A stay of an hourly table as one ``[24, 2F]`` per modality."""
    stays = read_stays(path, layout_of(layout))
    stays.findings.raise_for_errors("a table of stays")
    return stays.tensors(stay, until_hour)


def layout_of(settings: Mapping[str, Any]) -> Layout:
    """The :class:`Layout` in plain settings."""

    def frozen(value: Any) -> Any:
        return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value

    return Layout(**{key: frozen(value) for key, value in settings.items()})


def _quiet(error: FedkimError, path: Path, what: str, code: str) -> FedkimError:
    """The error without the path: names of files are often names of patients."""
    secrets = {str(path), path.name, path.stem, str(path.with_suffix(""))} - {""}

    def clean(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "the file")
        return text

    return FedkimError(
        what,
        found=clean(error.found),
        expected=clean(error.expected),
        remedy=clean(error.remedy),
        code=error.code or code,
    )


def _check_header(path: Path, declared: float) -> None:
    """A WFDB header before wfdb sees it: its files must be its neighbours, its rate the declared one."""
    header = path.with_suffix(".hea") if path.suffix != ".hea" else path
    try:
        lines = header.read_text(encoding="utf-8", errors="replace")[: 1 << 16].splitlines()
    except OSError as error:
        raise FedkimError("an ECG", found=f"no header ({type(error).__name__})", code="E-ECG-FORMAT") from None
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    first = lines[0].split() if lines else []
    try:
        num_signals = int(first[1])
        rate = float(first[2].split("/")[0].split("(")[0])
        num_samples = int(first[3])
    except (IndexError, ValueError):
        remedy = "the first line names the record, its leads, rate and length"
        raise FedkimError("an ECG", found="no WFDB header", remedy=remedy, code="E-ECG-FORMAT") from None
    if not (0 < num_signals <= 64 and 0 < num_samples * num_signals <= MOST_SAMPLES * 10):
        expected = "1 to 64 leads and at most 100 million samples"
        raise FedkimError("an ECG", found="a header with another size", expected=expected, code="E-ECG-FORMAT")
    if not math.isfinite(rate) or not 10 <= rate <= 100_000:
        raise FedkimError("an ECG", found="an impossible sampling rate", expected="10 to 100,000", code="E-ECG-RATE")
    if declared and abs(rate - declared) > 1e-6 * declared:
        found, expected = f"{rate:g} samples a second in the header", f"{declared:g}, as declared"
        raise FedkimError(
            "an ECG", found=found, expected=expected, remedy="correct data.ecg.sampling_rate", code="E-ECG-RATE"
        )
    for line in lines[1 : num_signals + 1]:
        name = line.split()[0]
        if (
            Path(name).name != name
            or "://" in name
            or not (header.parent / name).resolve().is_relative_to(header.parent.resolve())
        ):
            remedy = "keep .hea and .dat in one folder"
            raise FedkimError("an ECG", found="samples in another folder", remedy=remedy, code="E-PATH-OUTSIDE")


def _from_csv(path: Path, sampling_rate: float, unit: str, start: float) -> Tensor:
    if not sampling_rate or not unit:
        expected = "data.ecg.sampling_rate and data.ecg.unit"
        raise FedkimError(
            "an ECG", found="a CSV without a declared rate and unit", expected=expected, code="E-ECG-RATE"
        )
    findings = Findings()
    table = read_table(path, findings, name="an ECG")
    findings.raise_for_errors("an ECG")
    assert table is not None
    names = [name for name in table.columns if name.lower() not in ("time", "t", "sample", "index")]
    if not names or any(_is_number(name) for name in names) or len(names) > 64:
        expected = "a header with 1 to 64 names of leads"
        raise FedkimError("an ECG", found="no names of leads in the first line", expected=expected, code="E-ECG-LEADS")
    if table.num_rows * len(names) > MOST_SAMPLES:
        raise FedkimError("an ECG", found=f"{table.num_rows:,} rows", expected="a shorter cut", code="E-ECG-LENGTH")
    standard = {name.lower(): place for place, name in enumerate(LEADS)}
    if all(name.lower() in standard for name in names):
        names.sort(key=lambda name: standard[name.lower()])
    wave = np.array([[_sample(cell) for cell in table.columns[name]] for name in names]) / _PER_MILLIVOLT[unit]
    first = round(start * sampling_rate)
    cut = wave[:, first : first + round(SECONDS * sampling_rate)]
    if cut.shape[1] < round(SECONDS * sampling_rate):
        found = f"{max(0.0, wave.shape[1] / sampling_rate - start):.2f} s"
        raise FedkimError(
            "an ECG", found=found, expected=f"{SECONDS} s", remedy="give a longer recording", code="E-ECG-LENGTH"
        )
    if np.isfinite(cut).all():
        _check_amplitude(cut)
    return prepare(cut, sampling_rate, what="an ECG")


def _sample(cell: str) -> float:
    try:
        return float(cell) if cell.isascii() and "_" not in cell else math.nan
    except ValueError:
        return math.nan


def _is_number(text: str) -> bool:
    return not math.isnan(_sample(text))


def _check_amplitude(wave: np.ndarray) -> None:
    """Refuse millivolts that can't be: a QRS complex has 0.1 to 5 mV, whatever the patient."""
    centred = np.abs(wave - np.median(wave, axis=1, keepdims=True))
    height = float(np.median(np.percentile(centred, 99.5, axis=1)))
    if height > 50 or 0 < height < 0.005:
        found, expected = f"an amplitude of {height:.2g} mV", "0.1 to 5 mV"
        raise FedkimError("an ECG", found=found, expected=expected, remedy="correct data.ecg.unit", code="E-ECG-UNIT")
