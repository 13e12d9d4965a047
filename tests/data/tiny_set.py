"""A small public set of made-up pictures and waves, in a layout of its own: what the data layer's tests read.

<root>/table.csv                file,patient,seconds,covid,atelectasis
<root>/films/0.png              64 × 64, 8 bit
<root>/waves/0.csv              rate in the first line, then a column of samples for each lead
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PublicSet
from fedkim.data.record import Input, Record
from fedkim.modalities import image, signal


def read_film(path, *, size):
    return {"image": image.read_image(path, size)}


def read_wave(path):
    rate, *rows = path.read_text().splitlines()
    return {"signal": signal.prepare(np.array([list(map(float, row.split(","))) for row in rows]).T, float(rate))}


def film(number, side=96):
    """A picture like no other: broad shapes and fine grain."""
    random = np.random.default_rng(number)
    broad, fine = (gaussian_filter(random.normal(size=(side, side)), sigma) for sigma in (side / 10, side / 60))
    mixed = broad / broad.std() + 0.7 * fine / fine.std()
    return np.clip(128 + 40 * mixed, 0, 255).astype(np.uint8)


def wave(number, rate=100, leads=2):
    """Ten seconds of made-up beats, the same heart at any rate."""
    random = np.random.default_rng(number)
    beats = np.cumsum(random.uniform(0.6, 1.1, 20))
    heights, widths = random.uniform(0.5, 1.5, (leads, 20)), random.uniform(0.02, 0.05, 20)
    time = np.arange(10 * rate) / rate
    bumps = np.exp(-(((time[None] - beats[:, None]) / widths[:, None]) ** 2))
    return heights @ bumps


def write_wave(path, values, rate):
    path.write_text("\n".join([str(rate), *(",".join(f"{v:.4f}" for v in row) for row in values.T)]))


def write(root, number=60, *, seed=0, tasks=("covid", "atelectasis"), prefix="p"):
    """``number`` pictures of ``number`` / 2 patients; the first task's answer brightens a corner."""
    (root / "films").mkdir(parents=True)
    rows = []
    for index in range(number):
        pixels, answer = film(10_000 * seed + index), index % 4 in (0, 3)
        if answer:
            pixels[:24, :24] = 250
        Image.fromarray(pixels).save(root / "films" / f"{index}.png")
        answers = ("Yes" if answer else "No", "Yes" if index % 3 == 0 else "No")
        rows.append([f"films/{index}.png", f"{prefix}{index // 2}", *answers])
    write_table(root, rows, tasks)
    return rows


def write_table(root, rows, tasks=("covid", "atelectasis")):
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "patient", *tasks], *rows])


def read(root, reading, name="tiny"):
    with (Path(root) / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    records = []
    for row in rows:
        path = Path(root) / row.pop("file")
        patient = row.pop("patient")
        given = (
            Input(path=path, read=read_film, settings={"size": reading.image_size})
            if path.suffix != ".csv"
            else Input(path=path, read=read_wave)
        )
        labels = {task: answer for task, answer in row.items() if answer}
        records.append(Record(id=f"{name}/{path.name}", patient=f"{name}/{patient}", inputs=(given,), labels=labels))
    return records


def read_other(root, reading):
    return read(root, reading, name="other")


def check(root):
    findings = Findings()
    found = len((Path(root) / "table.csv").read_text().splitlines()) - 1
    if found != 60:
        findings.add("W-COUNT", file="table.csv", found=f"{found} rows", expected="60 rows")
    return findings


def public_set(name="tiny", reader=read, tasks=("covid", "atelectasis")):
    return PublicSet(
        name=name, contents="made-up pictures", citation="none", tasks=tasks, read=reader, check=check, versions=()
    )
