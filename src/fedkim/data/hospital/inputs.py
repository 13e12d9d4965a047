"""The files of a row, read by declared rules into canonical tensors; no error of theirs repeats a path or a value.

These are the functions that :class:`~fedkim.data.record.Input` carries: a module's own, with plain settings, so that
worker processes can call them and a cache can be keyed by them. What they add to ``fedkim.modalities`` is confinement, the
declared rates and units, and silence about names.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkim.data.hospital.layout import Layout
from fedkim.data.hospital.stays import read_stays
from fedkim.errors import FedkimError
from fedkim.modalities.image import read_image
from fedkim.modalities.signal import SECONDS, prepare
from fedkim.modalities.signal_files import STANDARD_LEADS, Wave, read_wave, standard_order

MOST_SAMPLES = 100_000_000
"""Numbers of one ECG: a day of twelve leads at 100 samples a second."""
_QUOTED = re.compile(r"'[^']*'")
_NUMBER = re.compile(r"[\d.,]+")


def read_image_input(path: Path, *, size: int, frames: str = "refuse") -> Mapping[str, Tensor]:
    """An image file as ``{"image": [1, size, size]}``."""
    try:
        settings: dict[str, Any] = {} if frames == "refuse" else {"frames": frames}
        return {"image": read_image(path, size, **settings)}
    except FedkimError as error:
        raise _quiet(error, path, "an image", "E-IMG-UNREADABLE") from None


def read_ecg_input(
    path: Path, *, sampling_rate: float, unit: str, start: float, leads: Sequence[str] = (), missing: str = "refuse"
) -> Mapping[str, Tensor]:
    """An ECG file, WFDB or CSV, as ``{"signal": [leads, 1000]}``."""
    try:
        if path.suffix.lower() == ".csv":
            if not unit:
                expected, remedy = "a declared unit", "declare data.ecg.unit"
                raise FedkimError("an ECG", found="a CSV", expected=expected, remedy=remedy, code="E-ECG-UNIT")
        else:
            _check_header(path)
        wave = read_wave(path, start, SECONDS, sampling_rate=sampling_rate, units=unit, leads=leads, missing=missing)
        # twelve leads have one order, whatever the declared one: an encoder of several sites knows them by their place
        wave = standard_order(wave) if leads else _known_order(wave)
        tensor = prepare(wave.values, wave.rate, what=wave.what)
    except FedkimError as error:
        raise _quiet(error, path, "an ECG", "E-ECG-FORMAT") from None
    return {"signal": tensor}


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


def _known_order(wave: Wave) -> Wave:
    """The standard twelve in their order, or a single lead: of any others nobody knows that all files have them alike."""
    wave = standard_order(wave)
    if len(wave.leads) > 1 and wave.leads != STANDARD_LEADS:
        found, expected = f"{len(wave.leads)} leads in an order of the file's own", "the standard twelve, or one"
        remedy = "declare data.ecg.leads"
        raise FedkimError("an ECG", found=found, expected=expected, remedy=remedy, code="E-ECG-LEADS")
    return wave


def _quiet(error: FedkimError, path: Path, what: str, code: str) -> FedkimError:
    """The error without the path: names of files are often names of patients."""
    secrets = [str(path), str(path.with_suffix("")), path.name]
    # as whole words, and no number: the 2.0 of a message isn't the file 0, whose name would stand in its path
    words = [rf"(?<![\w.-]){re.escape(secret)}(?![\w-])" for secret in secrets if not _NUMBER.fullmatch(secret)]
    whole = re.compile("|".join(words))

    def clean(text: str) -> str:
        return whole.sub("the file", text)

    found = _QUOTED.sub("'…'", clean(error.found))  # names of leads and units come out of the file
    return FedkimError(
        what,
        found=found,
        expected=clean(error.expected),
        remedy=clean(error.remedy),
        code=error.code or code,
    )


def _check_header(path: Path) -> None:
    """A WFDB header before wfdb sees it: its files must be its neighbours, its size bearable."""
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
    if not (0 < num_signals <= 64 and 0 < num_samples * num_signals <= MOST_SAMPLES):
        expected = "1 to 64 leads and at most 100 million samples"
        raise FedkimError("an ECG", found="a header with another size", expected=expected, code="E-ECG-FORMAT")
    if not math.isfinite(rate) or not 10 <= rate <= 100_000:
        raise FedkimError("an ECG", found="an impossible sampling rate", expected="10 to 100,000", code="E-ECG-RATE")
    for line in lines[1 : num_signals + 1]:
        if not _is_neighbour(line.split()[0], header.parent):
            remedy = "keep .hea and .dat in one folder"
            raise FedkimError("an ECG", found="samples in another folder", remedy=remedy, code="E-PATH-OUTSIDE")


def sample_files(header: Path) -> tuple[Path, ...]:
    """The files beside a WFDB header that its samples are in, of a record of several segments their headers and samples too."""
    found: dict[Path, None] = {}
    headers = [header]
    for place in headers:
        try:
            text = place.read_text(encoding="utf-8", errors="replace")[: 1 << 16]
        except OSError:
            continue  # told when it is read
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        segmented = bool(lines) and "/" in lines[0][0]
        for first, *_ in lines[1:]:
            name = f"{first}.hea" if segmented else first
            part = place.parent / name
            if first == "~" or not _is_neighbour(name, place.parent) or not part.is_file() or part in found:
                continue
            found[part] = None
            if segmented and len(headers) <= 1000:
                headers.append(part)
    return tuple(found)


def _is_neighbour(name: str, folder: Path) -> bool:
    try:
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # NUL, a name too long, links in a circle
        return False
    return inside and Path(name).name == name and "://" not in name
