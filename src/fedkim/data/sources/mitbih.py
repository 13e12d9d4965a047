"""MIT-BIH Arrhythmia Database: half-hour ECG records with a symbol on every beat (Moody & Mark 2001; PhysioNet, ODC-BY).

    100.hea   100 1 360 650000            one lead, 360 samples a second, 30 minutes
    100.atr   77 N, 370 N, 662 N, …       beat symbols at their R peaks; V = premature ventricular contraction

A record is a patient. Window k is the samples [10·k, 10·(k+1)) seconds; what is left after the last whole window is
dropped. A beat belongs to the window its R peak lies in. Only the first lead is read. In the pack ``N`` stands for every
beat that isn't ``V`` (paced and bundle-branch beats among them), so nothing but ``V`` against the rest may be asked.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkim.errors import FedkimError, install_extra
from fedkim.modalities.signal import SECONDS

FOLDER = Path("ecg") / "mitbih"
RECORDS = ("100", "102", "104", "105", "108", "114", "119", "123", "200")
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""WFDB's beat symbols; the others (rhythm changes, noise marks) are no beats."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record, cut into ten-second windows."""

    name: str
    lead: str
    """As the header says: ``MLII`` (a modified lead II) or ``V5``."""
    sampling_rate: float
    windows: np.ndarray
    """Millivolts, ``[num_windows, 1, 10 * sampling_rate]``."""
    premature: tuple[bool, ...]
    """By window: does it hold a premature ventricular beat?"""
    heart_rate: tuple[float | None, ...]
    """By window: 60 s over the mean R-R distance inside it; None with fewer than two beats."""
    irregularity: tuple[float | None, ...]
    """By window: its longest R-R distance over its shortest; None with fewer than three beats."""


def files(root: Path, name: str) -> list[Path]:
    """The record's three files."""
    return [Path(root) / FOLDER / f"{name}.{ending}" for ending in ("hea", "dat", "atr")]


def read(root: Path, name: str) -> Record:
    """The record ``name`` of the pack at ``root``.

    Raises:
        FedkimError: a file is missing, wfdb is missing, the record is unreadable, has gaps or is shorter than a window.
    """
    try:
        import wfdb
    except ImportError:
        raise FedkimError("reading ECG records needs wfdb", remedy=install_extra("ecg")) from None
    stem = Path(root) / FOLDER / name
    what = f"ECG record {stem}"
    for file in files(root, name):
        if not file.is_file():
            remedy = "assemble the pack (docs/data/pack.md)"
            raise FedkimError(what, found=f"no file {file.name}", expected="files .hea, .dat and .atr", remedy=remedy)
    try:
        record = wfdb.rdrecord(str(stem), channels=[0])
        beats = wfdb.rdann(str(stem), "atr")
        wave, rate, lead = record.p_signal[:, 0], float(record.fs), str(record.sig_name[0])
    except Exception as error:  # wfdb raises whatever its parser stumbles over
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="copy the record again from its source") from None
    if not np.isfinite(wave).all():
        raise FedkimError(what, found="missing samples", remedy="copy the record again from its source")
    length = round(SECONDS * rate)
    num = len(wave) // length
    if num == 0:
        raise FedkimError(what, found=f"{len(wave) / rate:.1f} s", expected=f"at least one window of {SECONDS} s")
    peaks = np.array([at for at, symbol in zip(beats.sample, beats.symbol) if symbol in BEATS], dtype=int)
    ventricular = {int(at) // length for at, symbol in zip(beats.sample, beats.symbol) if symbol == "V"}
    distances = [np.diff(peaks[peaks // length == window]) / rate for window in range(num)]
    return Record(
        name=name,
        lead=lead,
        sampling_rate=rate,
        windows=wave[: num * length].reshape(num, 1, length),
        premature=tuple(window in ventricular for window in range(num)),
        heart_rate=tuple(float(60 / d.mean()) if len(d) else None for d in distances),
        irregularity=tuple(float(d.max() / d.min()) if len(d) > 1 else None for d in distances),
    )
