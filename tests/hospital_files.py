"""A synthetic hospital's files: twelve invented patients with films, ECGs and stays, and the site.toml that declares them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

PATIENT = "MRN48151623"
"""Begins every invented patient's id and file name: must turn up nowhere."""

SITE = """
[site]
name = "st-elsewhere"

[data]
tables = ["patients.csv"]
missing = ["", "n/a"]
consent_given = ["yes"]

[data.columns]
patient = "patient"
image = "film"
ecg = "ecg"
stay = "stay"
consent = "consent"
site = "ward"

[data.labels.covid]
column = "pcr"
words = { pos = "Yes", neg = "No" }

[data.labels.ecg_abnormal]
column = "ecg_report"

[data.labels.mortality]
column = "died"
words = { 1 = "Yes", 0 = "No" }

[data.ecg]
sampling_rate = 100
unit = "mV"

[data.series]
file = "icu.csv"
units = { crea = "µmol/L" }
sentinels = ["-1", "<0.1"]

[policy]
min_patients = 20

[coordinator]
address = "fl.example.org:9092"
"""

HEADER = ("patient", "film", "ecg", "stay", "consent", "ward", "pcr", "ecg_report", "died")


def write_hospital(folder: Path, *, num_patients: int = 12, leads=("II", "I")) -> Path:
    """All files of a hospital in order; returns its site.toml."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(num_patients):
        name = f"{PATIENT}-{number:02d}"
        has_ecg = number < 4
        write_image(folder / "films" / f"{name}.png", random, bright=number % 2)
        if has_ecg:
            write_ecg(folder / "ecg" / f"{name}.csv", random, leads=leads)
        ecg = f"ecg/{name}.csv" if has_ecg else ""
        report = ("No", "Yes")[number % 2] if has_ecg else ""
        covid, died = ("neg", "pos")[number % 2], "01"[number % 2]
        rows.append((name, f"films/{name}.png", ecg, f"S{number}", "yes", f"ward-{number % 2}", covid, report, died))
    write_rows(folder / "patients.csv", HEADER, rows)
    write_stays(folder / "icu.csv", [f"S{number}" for number in range(num_patients)], random)
    named = (
        SITE
        if len(leads) in (1, 12)
        else SITE.replace("[data.ecg]\n", f"[data.ecg]\nleads = {json.dumps(list(leads))}\n")
    )
    (folder / "site.toml").write_text(named, encoding="utf-8")
    (folder / "pseudonyms.key").touch(mode=0o600)
    (folder / "pseudonyms.key").write_text("5e" * 32)  # a site makes its own at random
    return folder / "site.toml"


def write_rows(path: Path, header, rows, delimiter: str = ",") -> None:
    """A plain CSV."""
    lines = [delimiter.join(map(str, line)) for line in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_image(path: Path, random: np.random.Generator, *, bright: int = 0, size: int = 40) -> None:
    """Noise with a bright or dark middle."""
    path.parent.mkdir(exist_ok=True)
    pixels = random.integers(0, 120, (size, size))
    pixels[size // 4 : -size // 4, size // 4 : -size // 4] += 100 * bright
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_ecg(
    path: Path, random: np.random.Generator, *, leads=("II", "I"), seconds: float = 10, scale: float = 1.0
) -> None:
    """A spike a second on noise, 100 samples a second, in mV times ``scale``."""
    path.parent.mkdir(exist_ok=True)
    num = round(100 * seconds)
    wave = 0.02 * random.standard_normal((num, len(leads)))
    wave[::100] += 1.0
    wave[1::100] += 0.5
    write_rows(path, leads, [[f"{value * scale:.4f}" for value in line] for line in wave])


def write_stays(path: Path, stays, random: np.random.Generator) -> None:
    """Heart rate and creatinine (in µmol/L) over 24 hours."""
    rows = []
    for stay in stays:
        for hour in range(24):
            rows.append((stay, hour, round(80 + 10 * random.standard_normal()), round(90 + 20 * random.random())))
    write_rows(path, ("stay_id", "hour", "hr [beats/min]", "crea"), rows)


def edit(path: Path, old: str, new: str, *, times: int = -1) -> None:
    """Replace text in a file; it must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, old
    path.write_text(text.replace(old, new, times), encoding="utf-8")
