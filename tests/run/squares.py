"""A plug-in for tests: the source ``squares``, sixty patients with a picture, and two questions about it."""

from dataclasses import replace

import torch

from fedkim.data.registry import FOLDED, SOURCES
from fedkim.data.sample import Dataset, Sample
from fedkim.tasks import TASKS, Task

PATIENTS = 60


def load(recipe):
    """Patient k is tested in fold k mod 5; a bright square decides ``square``, a bright border ``frame``."""
    random = torch.Generator().manual_seed(0)
    samples = []
    for number in range(PATIENTS):
        square, frame = number // 5 % 2 == 0, number // 10 % 2 == 0
        image = 0.3 * torch.randn(1, 32, 32, generator=random)
        image[:, 10:22, 10:22] += 2.0 * square
        image[:, :4] += 2.0 * frame
        turn = (number - recipe.data.fold) % 5
        split = "test" if turn == 0 else "development" if turn == 1 else "private"
        if split == "private" and number % 4 == 0:
            split = "public"
        samples.append(
            Sample(
                id=f"squares/{number}",
                patient=f"patient-{number}",
                site=f"hospital-{number % 2}",
                split=split,
                inputs={"image": image},
                labels={"square": "Yes" if square else "No", "frame": "Yes" if frame else "No"},
                strata={"shard": f"ward-{number % 3}"},
            )
        )
    return Dataset(samples, name="squares", synthetic=True)


SOURCES["squares"] = load
FOLDED.add("squares")
SQUARE = Task(name="square", question="Is there a square?", description="A square.", modalities=("image",))
TASKS["square"] = SQUARE
TASKS["frame"] = replace(SQUARE, name="frame", question="Is there a frame?", description="A frame.")
