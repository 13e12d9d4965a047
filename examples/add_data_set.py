"""A public data set of your own and a task it has labels for: a folder of images beside ``answers.csv`` (file, patient, fracture)."""

import csv

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet
from fedkim.data.record import Input, Record
from fedkim.modalities.image import read_image
from fedkim.tasks import TASKS, Task


def read_film(path, *, size):
    """A module's own function, so that worker processes find it; its source and settings are part of the cache's key."""
    return {"image": read_image(path, size)}


def read(root, reading):
    """One record a row; splitting, decoding, the search for duplicates and the cache are the ``public`` source's work."""
    for row in csv.DictReader((root / "answers.csv").open(encoding="utf-8")):
        film = Input(path=root / row["file"], read=read_film, settings={"size": reading.image_size})
        names = {"id": f"mine/{row['file']}", "patient": f"mine/{row['patient']}"}
        yield Record(**names, inputs=(film,), labels={"fracture": row["fracture"]})


ABOUT = {"contents": "images of mine", "citation": "none", "tasks": ("fracture",), "check": lambda root: Findings()}
PUBLIC_SETS["mine"] = PublicSet(name="mine", read=read, **ABOUT)
WHAT = "The fracture detection task involves analyzing images to determine whether a bone is broken."
TASKS["fracture"] = Task(name="fracture", question="Is a bone broken?", description=WHAT, modalities=("image",))
