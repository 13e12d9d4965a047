"""A data source of your own: a folder of images and ``labels.csv`` with columns file, patient and one for each task."""

import csv
from pathlib import Path

from fedkim.data.registry import SOURCES
from fedkim.data.sample import Dataset, Sample
from fedkim.data.splits import assign_splits
from fedkim.modalities.image import read_image


def load(recipe):
    """Every row with its image; patients split 7 : 1 : 1 : 1, labels of unseen tasks kept for the evaluation."""
    root, size, seen = Path(recipe.data.root), recipe.data.image_size, recipe.tasks.seen
    everything, answered, samples = (*seen, *recipe.tasks.unseen), {}, []
    rows = list(csv.DictReader((root / "labels.csv").open(encoding="utf-8")))
    for row in rows:
        answered.setdefault(row["patient"], set()).update(task for task in everything if row.get(task))
    splits = assign_splits(answered, seed=recipe.run.seed, unseen_tasks=recipe.tasks.unseen)
    for row in rows:
        patient, split, inputs = row["patient"], splits[row["patient"]], {"image": read_image(root / row["file"], size)}
        asked = seen if split in ("private", "public") else everything
        labels = {task: row[task] for task in asked if row.get(task)}
        samples.append(Sample(id=row["file"], patient=patient, split=split, inputs=inputs, labels=labels))
    return Dataset(samples, name="folder")


SOURCES["folder"] = load
