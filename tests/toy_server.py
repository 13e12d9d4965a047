"""A toy server for tests: the tiny language model, encoders of one layer, patients of four numbers."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedkim.data.sample import Dataset, Sample
from fedkim.injection import InjectionTrainer, Injector, LanguageModel, load_llm
from fedkim.recipe import M3OE, Injection
from fedkim.tasks import Task

WIDTH, TOKENS, NUMBERS = 16, 2, 4
BRIGHT = Task(name="bright", question="Is it bright?", description="Brightness of the picture.", modalities=("image",))
FAST = Task(name="fast", question="Is the rhythm a fast one?", description="Rate.", modalities=("signal",))
BOTH = Task(name="both", question="Is it both?", description="Both at once.", modalities=("image", "signal"))
GRADE = Task(
    name="grade",
    question="Which grade?",
    description="Grades in words.",
    modalities=("image",),
    answers=("low", "rather middling", "high"),
)
TALK = Task(name="talk", question="", description="Free words.", modalities=("image", "text"), answers=None)
TASKS = {task.name: task for task in (BRIGHT, FAST, BOTH, GRADE, TALK)}
SETTINGS = M3OE(experts=3, rank=2, router_width=16, dropout=0.0)
TEACHING = Injection(batch_size=8, steps_per_round=2, learning_rate=1e-2, encoder_learning_rate=1e-2)


class ToyEncoder(nn.Module):
    """``[B, 4] -> [B, k, W]``."""

    def __init__(self, seed: int):
        super().__init__()
        self.layer = nn.Linear(NUMBERS, TOKENS * WIDTH)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).view(len(x), TOKENS, WIDTH)


def tiny() -> LanguageModel:
    return load_llm("tiny", device="cpu", dtype="float32")


def make_injector(*, blind: bool = False, seed: int = 0, llm: LanguageModel | None = None, **settings) -> Injector:
    """An injector over image and signal; ``settings`` replace those of :data:`SETTINGS`."""
    return Injector(
        llm or tiny(),
        encoders={"image": ToyEncoder(1), "signal": ToyEncoder(2)},
        tasks=TASKS,
        settings=replace(SETTINGS, **settings),
        width=WIDTH,
        seed=seed,
        blind=blind,
    )


def stir(injector: Injector, scale: float = 0.05) -> Injector:
    """Give every adapter and router weight a value that matters, as training would."""
    generator = torch.Generator().manual_seed(7)
    groups = injector.parameters()
    with torch.no_grad():
        for group in ("adapter", "router"):
            for _, parameter in sorted(groups[group].items()):
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return injector


def patients(number: int = 12, *, split: str = "public", seed: int = 0) -> Dataset:
    """Patients whose first number decides their answers; half of them positive."""
    random = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(number):
        positive = index % 2 == 0
        image, signal = torch.randn(2, NUMBERS, generator=random).unbind(0)
        image[0] = signal[0] = 2.0 if positive else -2.0
        word = "Yes" if positive else "No"
        samples.append(
            Sample(
                id=f"{split}/{index}",
                patient=f"{split}/{index}",
                split=split,
                inputs={"image": image, "signal": signal},
                labels={
                    "bright": word,
                    "fast": word,
                    "both": word,
                    "grade": (GRADE.answers or ())[index % 3],
                    "talk": "words",
                },
                questions={"talk": ("What?", "What can be seen in this picture?", "Why?")[index % 3]},
            )
        )
    return Dataset(samples)


def make_trainer(
    injector: Injector,
    *,
    public: Dataset | None = None,
    seen: tuple[str, ...] = ("bright", "fast"),
    rounds: int = 2,
    workers: int = 1,
    micro_batch: int = 4,
    seed: int = 0,
    entropy_weight: float = 0.01,
    **settings,
) -> InjectionTrainer:
    """A trainer; ``settings`` replace those of :data:`TEACHING`."""
    return InjectionTrainer(
        injector,
        public or patients(),
        seen=seen,
        settings=replace(TEACHING, **settings),
        m3oe=replace(SETTINGS, entropy_weight=entropy_weight),
        rounds=rounds,
        micro_batch=micro_batch,
        workers=workers,
        seed=seed,
    )


def segments(injector: Injector, task: str, samples) -> list[Tensor]:
    """What a task's modalities become in front of the question."""
    inputs: Mapping[str, Tensor] = {
        name: torch.stack([sample.inputs[name] for sample in samples])
        for name in TASKS[task].modalities
        if name != "text"
    }
    return injector.align(injector.encode(task, inputs))
