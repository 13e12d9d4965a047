"""SiteFile: the ``site.toml`` in which a hospital declares where its data lie and what they mean.

::

    [site]
    name = "st-elsewhere"

    [data]
    tables = ["patients.csv"]              # one row a film, an ECG or a stay
    missing = ["", "n/a"]                  # cells that say nothing
    consent_given = ["yes"]

    [data.columns]                         # which column is what
    patient = "patient_id"
    image = "film"                         # files, relative to data.folder (the site file's own)
    ecg = "ecg_file"
    consent = "research_consent"

    [data.labels.covid]                    # a task and the words of its column
    column = "pcr"
    words = { positive = "Yes", negative = "No" }

    [data.ecg]
    sampling_rate = 500                    # samples a second; CSV files don't say
    unit = "mV"

    [data.series]
    units = { hr = "beats/min", crea = "µmol/L" }
    sentinels = ["-1", "999"]

Nothing is guessed: an unknown key is an error with a hint, and a column without a declared meaning isn't read. The
tables ``[policy]`` and ``[coordinator]`` are passed on as they are; a federation reads them.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedkim.data.findings import LISTED, Findings
from fedkim.data.hospital.files import open_regular
from fedkim.data.hospital.layout import UNIT
from fedkim.data.hospital.typed_tables import broken_toml, filled, kind_of, short
from fedkim.data.site_names import SITE_NAME
from fedkim.errors import unknown

LARGEST = 1 << 20
"""Bytes of a site.toml; a larger one is something else."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column of the tables is what; an empty name: there is none."""

    patient: str
    """Who: the unit of splitting. Read as text: ``007`` and ``7`` are two patients."""
    image: str = ""
    """An image file, relative to ``data.folder``."""
    ecg: str = ""
    """An ECG file: a WFDB record (its ``.hea``) or a CSV with a column a lead."""
    series: str = ""
    """An hourly table of this row's stay, one file a row."""
    stay: str = ""
    """The stay's id in ``data.series.file``, a table that all rows share."""
    split: str = ""
    """In which split a row is; without it patients are dealt by rule."""
    consent: str = ""
    """Whether the patient agreed; rows without one of ``data.consent_given`` are left out and counted."""
    site: str = ""
    """A natural part of the hospital: a ward, a scanner."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """How a task is answered in the tables."""

    column: str
    words: Mapping[str, str] = field(default_factory=dict)
    """The task's answer by the column's word; without it the cells hold the answers themselves."""
    question: str = ""
    """For free-text tasks: the column that holds the question."""


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What the image files are."""

    frames: Literal["refuse", "first", "middle"] = "refuse"
    """What to do with a DICOM file of several frames; nothing is taken silently."""


@dataclass(frozen=True, kw_only=True)
class EcgRules:
    """What the ECG files are; a WFDB header says it itself: its rate must agree, its unit counts."""

    sampling_rate: float = 0.0
    """Samples a second."""
    unit: Literal["", "mV", "µV", "uV", "V"] = ""
    """Of leads whose file states none."""
    start: float = 0.0
    """Where the ten seconds begin, in seconds."""
    leads: tuple[str, ...] = ()
    """Leads by name in the order wanted (the standard twelve: in theirs); without it these, or the one lead of the file: others need names."""
    missing: Literal["refuse", "mask"] = "refuse"
    """What to do about a lead that a file lacks: mask makes it a line of zeros."""


@dataclass(frozen=True, kw_only=True)
class SeriesRules:
    """What the hourly tables are."""

    file: str = ""
    """A table with the stays of all rows; each row names its own in ``data.columns.stay``."""
    form: Literal["wide", "long"] = "wide"
    """wide: a column a measurement; long: a row a measurement."""
    stay: str = "stay_id"
    """Column of the stay's id, in a shared table."""
    hour: str = "hour"
    """Column of the hours since admission."""
    concept: str = "concept"
    """Long form: column of the measurement's name."""
    value: str = "value"
    """Long form: column of its value."""
    unit: str = UNIT
    """Long form: column of its unit, if there is one; empty: none. Where a row has none, the declared one of ``units`` counts."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Your name by ours, ``{ crea = "Kreatinin" }``; absent: the same."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit by measurement, ``{ crea = "µmol/L" }``; required unless a header carries it, ``crea [µmol/L]``, or a row."""
    sentinels: tuple[str, ...] = ()
    """Cells that mean "not measured": ``["-1", "999", "<0.1"]``."""
    until_hour: int = 24
    """The 24 hours before this one are used."""


@dataclass(frozen=True, kw_only=True)
class HospitalData:
    """The table ``[data]``."""

    tables: tuple[str, ...] = ()
    """CSV or parquet, in the folder of the site file."""
    columns: Columns | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    """By task."""
    folder: str = "."
    """Where the paths in the tables start; nothing outside of it is read."""
    encoding: Literal["utf-8", "utf-16", "latin-1", "cp1252"] = "utf-8"
    delimiter: Literal[",", ";", "\t", "|"] = ","
    decimal: Literal[".", ","] = "."
    missing: tuple[str, ...] = ("",)
    splits: Mapping[str, str] = field(default_factory=dict)
    """Our split by the word of the split column, ``{ train = "private" }``."""
    consent_given: tuple[str, ...] = ()
    image: ImageRules = field(default_factory=ImageRules)
    ecg: EcgRules = field(default_factory=EcgRules)
    series: SeriesRules = field(default_factory=SeriesRules)
    source: Literal["hospital", "recipe"] = "hospital"
    """hospital: these tables. recipe: no files; the site holds a shard of the recipe's own (synthetic) data."""
    shard: str = ""
    """With source recipe: which."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The table ``[site]``."""

    name: str
    contact: str = ""
    folder: str = ""
    """Where a federation's records and logs go; see ``fedkim.site``."""


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """A whole site.toml."""

    path: Path
    site: Site
    data: HospitalData
    policy: Mapping[str, Any] = field(default_factory=dict)
    """As it stands there."""
    coordinator: Mapping[str, Any] = field(default_factory=dict)
    """As it stands there."""

    @property
    def files(self) -> Path:
        """Where the patients' files lie."""
        return self.path.parent / self.data.folder


def load_site_file(path: str | Path) -> SiteFile:
    """The site file at ``path``.

    Raises:
        FedkimError: what is wrong with it, the first thing in full.
    """
    findings = Findings()
    site = read_site_file(Path(path), findings)
    findings.raise_for_errors(f"site file {path}", LISTED)
    assert site is not None
    return site


def read_site_file(path: Path, findings: Findings) -> SiteFile | None:
    """The site file at ``path``, or None with what is wrong with it among the findings."""
    name = path.name
    content = open_regular(path, name, findings, largest=LARGEST)
    if content is None:
        return None
    try:
        text = content.decode("utf-8-sig")
        raw = tomllib.loads(text)
    except UnicodeDecodeError as error:
        findings.add("E-SITE-ENCODING", file=name, found=f"a byte that isn't UTF-8 at {error.start}", expected="UTF-8")
        return None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and what int() and deep nesting raise
        remedy = "values that are text stand in quotes"
        findings.add("E-SITE-TOML", file=name, found=broken_toml(error), remedy=remedy)
        return None
    before = len(findings.errors)
    for table in raw:
        if table not in _TABLES:
            remedy = unknown("table", short(table), _TABLES).remedy
            findings.add("E-SITE-KEY", file=name, field=short(table), found="an unknown table", remedy=remedy)
    site = filled(Site, raw.get("site", {}), "site", name, findings)
    data = filled(HospitalData, raw.get("data", {}), "data", name, findings)
    passed = {}
    for table in ("policy", "coordinator"):
        passed[table] = raw.get(table, {})
        if not isinstance(passed[table], Mapping):
            findings.add("E-SITE-VALUE", file=name, field=table, found=kind_of(passed[table]), expected="a table")
    if len(findings.errors) > before:
        return None
    whole = SiteFile(path=path, site=site, data=data, **passed)
    _check_meaning(whole, findings)
    return whole if len(findings.errors) == before else None


_TABLES = ("site", "data", "policy", "coordinator")


def _check_meaning(site: SiteFile, findings: Findings) -> None:
    """What the types don't say."""
    from fedkim.data.hospital.meaning import check_meaning

    if not SITE_NAME.fullmatch(site.site.name):
        expected = "letters, digits, '_', '-' and '.', beginning with a letter, at most 64"
        findings.add("E-SITE-VALUE", file=site.path.name, field="site.name", found="another form", expected=expected)
    check_meaning(site.data, site.path.name, findings)
