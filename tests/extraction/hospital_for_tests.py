"""A small, made-up hospital: bright squares, fast waves and sick series that a small model can learn."""

import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.recipe import Extraction
from fedkim.tasks import Task

ICU = ("vitals", "labs")
BRIGHT = Task(
    name="bright", question="Is it bright?", description="Whether the middle is bright.", modalities=("image",)
)
LEFT = Task(name="left", question="Is it left?", description="Whether the left is bright.", modalities=("image",))
FAST = Task(name="fast", question="Is it fast?", description="Whether the rhythm is fast.", modalities=("signal",))
SICK = Task(name="sick", question="Is it sick?", description="Whether the patient is sick.", modalities=ICU)
COLOUR = Task(
    name="colour",
    question="Which?",
    description="Which of three.",
    modalities=("image",),
    answers=("low", "middle", "high"),
)
TALK = Task(name="talk", question="", description="A free question.", modalities=("text", "image"), answers=None)
TASKS = (BRIGHT, LEFT, FAST, SICK)
SETTINGS = Extraction(width=32, batch_size=8, balanced=False, augment=False)


def yes(condition) -> str:
    return "Yes" if condition else "No"


def hospital(number: int = 12, *, kinds: tuple[str, ...] = ("image", "signal", *ICU), seed: int = 0) -> Dataset:
    """``number`` patients of each kind, half of them positive in every task."""
    random = torch.Generator().manual_seed(seed)
    samples = []

    def noise(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=random)

    for index in range(number):
        bright, left = index % 2 == 0, index % 4 < 2
        if "image" in kinds:
            image = noise(1, 32, 32)
            image[:, 10:22, 10:22] += 2.0 * bright
            image[:, :, :6] += 2.0 * left
            labels = {"bright": yes(bright), "left": yes(left), "colour": ("low", "middle", "high")[index % 3]}
            samples.append(_sample(f"image/{index}", {"image": image}, labels))
        if "signal" in kinds:
            time = torch.arange(1000) / 100
            wave = torch.sin(2 * torch.pi * (3.0 if bright else 1.0) * time)[None] + noise(1, 1000)
            samples.append(_sample(f"signal/{index}", {"signal": wave}, {"fast": yes(bright)}))
        series = {name: noise(24, 14 if name == "vitals" else 78) + bright for name in ICU if name in kinds}
        if series:
            samples.append(_sample(f"icu/{index}", series, {"sick": yes(bright)}))
    return Dataset(samples)


def _sample(name: str, inputs: dict[str, torch.Tensor], labels: dict[str, str]) -> Sample:
    return Sample(id=name, patient=name, split="private", inputs=inputs, labels=labels)
