"""ECG files as waves in millivolts: WFDB records and CSV tables, leads found by name, what can't be an ECG refused.

    CSV   time,I,II,V1 [µV]      one column a lead, a unit where it isn't mV; the column ``time`` (seconds) may be absent
          0.000,0.02,0.31,120    but the sampling rate has to be declared

Nothing is guessed: rate and units are the header's or the caller's. That the values fit them is checked: an ECG spans
millivolts, so a spread of hundreds is microvolts by another name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from fedkim.errors import FedkimError, install_extra
from fedkim.modalities.signal_amplitude import check_amplitude
from fedkim.modalities.signal_csv import header_leads, rate_of, read_columns

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The order of a twelve-lead input."""
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "v": 1e3, "nv": 1e-6}
"""By unit, lower case and with every micro as u."""
RATES = (50.0, 20000.0)
"""Samples a second outside of which nothing is a diagnostic ECG."""


@dataclass(frozen=True, kw_only=True)
class Wave:
    """A stretch of a recording."""

    what: str
    values: np.ndarray
    """Millivolts, ``[leads, n]``."""
    rate: float
    """Samples a second."""
    leads: tuple[str, ...]


def leads_of(num_leads: int) -> tuple[str, ...] | None:
    """The leads by name that an input of so many is made of: the standard twelve; None where any lead will do."""
    return STANDARD_LEADS if num_leads == len(STANDARD_LEADS) else None


def standard_order(wave: Wave) -> Wave:
    """A wave of the twelve standard leads in :data:`STANDARD_LEADS`' order, whatever the file's; any other as it stands."""
    if {name.lower() for name in wave.leads} == {name.lower() for name in STANDARD_LEADS}:
        return in_order(wave, STANDARD_LEADS)
    return wave


def read_wave(
    path: str | Path,
    start_seconds: float,
    seconds: float,
    *,
    sampling_rate: float = 0.0,
    units: str = "",
    leads: Sequence[str] = (),
    missing: str = "refuse",
) -> Wave:
    """``seconds`` of a recording from ``start_seconds`` on: a ``.csv`` table, or else a WFDB record.

    Args:
        path: the file; of a WFDB record with or without its ``.hea``.
        start_seconds: where the window begins.
        seconds: how long it is.
        sampling_rate: samples a second; needed for a CSV without ``time``, elsewhere checked against the file.
        units: ``mV``, ``µV`` or ``V`` for leads without a unit of their own; default mV.
        leads: these alone, in this order (:func:`in_order`); what else the file holds needs no unit. Empty: all as they stand.
        missing: of those, see :func:`in_order`.

    Raises:
        FedkimError: missing, unreadable, without a wanted lead, too short, at an impossible or another rate, in an unknown unit, at an
            amplitude that isn't an ECG's, or saturated. Each with a code ``E-ECG-…``.
    """
    for name, number, code in (
        ("start of the window", start_seconds, "E-ECG-LENGTH"),
        ("sampling rate", sampling_rate, "E-ECG-RATE"),
    ):
        if not math.isfinite(number):
            raise FedkimError(f"{name} of an ECG", found=f"{number:g}", expected="a finite number", code=code)
    reader = _read_csv if str(path).lower().endswith(".csv") else _read_wfdb
    wave = reader(path, start_seconds, seconds, sampling_rate, units, leads)
    wave = in_order(wave, leads, missing) if leads else wave
    check_amplitude(wave.what, wave.values, wave.leads)
    return wave


def lead_names(path: str | Path) -> tuple[str, ...]:
    """The leads of a recording by its header alone, as :func:`read_wave` finds them.

    Raises:
        FedkimError: no such file, or no header that can be read.
    """
    if str(path).lower().endswith(".csv"):
        return header_leads(Path(path), f"ECG table {path}")
    wfdb = _wfdb()
    record = str(path).removesuffix(".hea")
    try:
        return tuple(str(name) for name in wfdb.rdheader(record).sig_name or ())
    except Exception as error:  # wfdb raises whatever its parser stumbles over
        what, found = f"ECG record {record}", f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="copy it again from its source", code="E-ECG-FORMAT") from None


def in_order(wave: Wave, wanted: Sequence[str], missing: str = "refuse") -> Wave:
    """The leads in the ``wanted`` order, found by name whatever its case.

    Limb leads that follow from I and II (Einthoven: III = II − I; Goldberger: aVR = −(I + II)/2 and so on) are computed.
    Another lead that lacks is refused, or with ``missing = "mask"`` a line of zeros.

    Raises:
        FedkimError: a lead is missing (``E-ECG-LEADS``), or stands there twice.
    """
    if missing not in ("refuse", "mask"):
        raise FedkimError("missing leads", found=repr(missing), expected="refuse or mask")
    position: dict[str, int] = {}
    for place, name in enumerate(wave.leads):
        if name.lower() in position:
            raise FedkimError(wave.what, found=f"lead {name!r} twice", remedy="keep one", code="E-ECG-LEADS")
        position[name.lower()] = place
    given = {lead: wave.values[place] for lead, place in position.items()}
    if "i" in given and "ii" in given:
        first, second = given["i"], given["ii"]
        derived = {
            "iii": second - first,
            "avr": -(first + second) / 2,
            "avl": first - second / 2,
            "avf": second - first / 2,
        }
        given = derived | given
    lacking = [lead for lead in wanted if lead.lower() not in given]
    if lacking and (missing == "refuse" or len(lacking) == len(wanted)):
        found = f"no lead {', '.join(lacking)}"
        raise FedkimError(
            wave.what,
            found=found,
            expected=", ".join(wanted),
            remedy="give a file with these leads, or say in a site file which there are (data.ecg.leads) or that missing ones "
            "are masked (data.ecg.missing)",
            code="E-ECG-LEADS",
        )
    silent = np.zeros(wave.values.shape[1])
    values = np.stack([given.get(lead.lower(), silent) for lead in wanted])
    return Wave(what=wave.what, values=values, rate=wave.rate, leads=tuple(wanted))


def _wfdb() -> ModuleType:
    try:
        import wfdb
    except ImportError:
        raise FedkimError("reading ECG records needs wfdb", remedy=install_extra("ecg")) from None
    return wfdb


def _read_wfdb(
    path: str | Path, start: float, seconds: float, sampling_rate: float, units: str, leads: Sequence[str]
) -> Wave:
    wfdb = _wfdb()
    record = str(path).removesuffix(".hea")
    what = f"ECG record {record}"
    if not Path(record + ".hea").is_file():
        expected = f"{record}.hea"
        raise FedkimError(
            what, found="no header file", expected=expected, remedy="check the path", code="E-FILE-MISSING"
        )
    try:
        header = wfdb.rdheader(record)
        rate, length = float(header.fs), int(header.sig_len)
        _check_rate(what, rate, sampling_rate)
        first, last = _window(what, rate, length, start, seconds)
        found = wfdb.rdrecord(record, sampfrom=first, sampto=last)
        wave, names, stated = found.p_signal, [str(name) for name in found.sig_name], list(found.units)
    except FedkimError:
        raise
    except Exception as error:  # wfdb raises whatever its parser stumbles over
        remedy = "copy the record again from its source, with its .dat file"
        raise FedkimError(
            what, found=f"unreadable ({type(error).__name__})", remedy=remedy, code="E-ECG-FORMAT"
        ) from None
    factors = _factors(what, names, stated, units, leads)
    values = np.asarray(wave, dtype=np.float64).T
    if any(factor != 1 for factor in factors):
        values = values * np.array(factors)[:, None]
    return Wave(what=what, values=values, rate=rate, leads=tuple(names))


def _read_csv(
    path: str | Path, start: float, seconds: float, sampling_rate: float, units: str, leads: Sequence[str]
) -> Wave:
    what = f"ECG table {path}"
    names, stated, values, seconds_of = read_columns(Path(path), what)
    rate = sampling_rate
    if seconds_of is not None and len(seconds_of) > 1:
        rate = rate_of(seconds_of, f"{what}: column 'time'")
    if not rate:
        remedy = "add a column time, in seconds, or declare it in a site file: data.ecg.sampling_rate"
        raise FedkimError(what, found="no sampling rate", remedy=remedy, code="E-ECG-RATE")
    _check_rate(what, rate, sampling_rate)
    first, last = _window(what, rate, values.shape[1], start, seconds)
    if seconds_of is not None:
        first, last = _by_clock(seconds_of - seconds_of[0], start, first, last)
    factors = _factors(what, names, stated, units, leads)
    return Wave(what=what, values=values[:, first:last] * np.array(factors)[:, None], rate=rate, leads=tuple(names))


def _window(what: str, rate: float, length: int, start: float, seconds: float) -> tuple[int, int]:
    begin, end = start * rate, (start + seconds) * rate  # either may be too large for a whole number
    first, last = (round(begin), round(end)) if begin > -1 and end < length + 1 else (-1, -1)
    if not 0 <= first < last <= length:
        raise FedkimError(
            what,
            found=f"{length / rate:.1f} s",
            expected=f"at least {start + seconds:g} s for a {seconds:g} s window at {start:g} s",
            remedy="choose another start or a longer record",
            code="E-ECG-LENGTH",
        )
    return first, last


def _by_clock(elapsed: np.ndarray, start: float, first: int, last: int) -> tuple[int, int]:
    """The window where the file's own times have its beginning: far into a record whose clock drifts the mean rate is seconds off."""
    begin = int(np.abs(elapsed - start).argmin())
    if abs(begin - first) <= 1:  # times may be rounded
        return first, last
    begin = min(begin, len(elapsed) - (last - first))
    return begin, begin + last - first


def _check_rate(what: str, rate: float, declared: float) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        expected = f"{RATES[0]:g} to {RATES[1]:g} samples a second"
        raise FedkimError(
            what, found=f"{rate:g}", expected=expected, remedy="check the sampling rate", code="E-ECG-RATE"
        )
    if declared and abs(rate - declared) > 0.01 * declared:
        raise FedkimError(
            what, found=f"{rate:g} samples a second", expected=f"the declared {declared:g}", code="E-ECG-RATE"
        )


def _factors(what: str, names: Sequence[str], stated: Sequence[str], units: str, leads: Sequence[str]) -> list[float]:
    """What turns each channel into millivolts. Beside wanted leads there may be others, of no unit that we know: they stay as they are."""
    wanted = {lead.lower() for lead in leads}
    if wanted - {name.lower() for name in names}:
        wanted |= {"i", "ii"}  # limb leads are computed from these
    # a header without units means mV in WFDB; an undeclared unit of the caller's is of no use then
    return [
        _millivolts(what, name, unit or units or "mV") if not leads or name.lower() in wanted else 1.0
        for name, unit in zip(names, stated)
    ]


def _millivolts(what: str, lead: str, unit: str) -> float:
    plain = unit.strip().lower().replace("µ", "u").replace("μ", "u")
    if plain not in MILLIVOLTS:
        raise FedkimError(f"{what}: lead {lead!r}", found=f"unit {unit!r}", expected="mV, µV or V", code="E-ECG-UNIT")
    return MILLIVOLTS[plain]
