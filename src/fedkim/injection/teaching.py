"""What the aggregated decoders have to say on the server: where they look, and what they would answer. Both are ours, not the paper's.

Shapes: B rows, k tokens of a modality, W encoder width, K answers.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.errors import FedkimError
from fedkim.injection.alignment import Alignment
from fedkim.injection.batches import stack_inputs
from fedkim.injection.injector import Injector

AT_ONCE = 256
"""Public inputs that the encoders see in one pass."""

Pools = Mapping[str, Sequence[Sample]]
"""Public samples with every input, by task."""

Teacher = Callable[[str, Mapping[str, Tensor]], Tensor]
"""``(task, features by modality [B, k, W]) -> [B, K]`` log-probabilities of the aggregated decoder."""

Guide = Callable[[str, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""``(task, features by modality) -> direction [W] by modality`` along which the task's aggregated decoder decides."""


class Lessons:
    """The decoders' answers to mix-ups of public features, in the place of the public labels.

    A few hundred public inputs, mixed two by two, show a decoder whole, where their own labels (a dozen deaths) don't.

    Args:
        injector: whose encoders make the features.
        pools: the public inputs.
        teacher: the round's decoders.

    Raises:
        FedkimError: a task with an answer of several tokens.
    """

    def __init__(self, injector: Injector, pools: Pools, teacher: Teacher):
        self.teacher = teacher
        self.first_tokens = {name: _first_tokens(injector, name) for name in pools}
        """By task: the token of each answer."""
        self.centres: dict[str, Tensor] = {}
        """By task: its answers' mean log-probabilities over the public inputs, so that rare answers count as much as frequent ones."""
        for name, pool in pools.items():
            features = _features(injector, name, pool)
            with torch.no_grad():
                self.centres[name] = teacher(name, features).mean(0)

    def give(
        self, tasks: Sequence[str], features: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Mix-ups λ·e_i + (1−λ)·e_j of the rows' features, and for each row its decoder's probabilities ``[K]``."""
        size = len(next(iter(features.values())))
        partner = torch.randperm(size, generator=generator)
        share = torch.rand(size, 1, 1, generator=generator)
        mixed = {
            modality: tokens * share.to(tokens.device) + tokens[partner] * (1 - share.to(tokens.device))
            for modality, tokens in features.items()
        }
        targets: dict[int, Tensor] = {}
        with torch.no_grad():
            for task in dict.fromkeys(tasks):
                rows = [row for row, name in enumerate(tasks) if name == task]
                said = self.teacher(task, {modality: tokens[rows] for modality, tokens in mixed.items()})
                for row, target in zip(rows, (said - self.centres[task]).softmax(-1)):
                    targets[row] = target
        return mixed, [targets[row] for row in range(size)]


def condition(injector: Injector, pools: Pools, guide: Guide, gain: float) -> None:
    """Fit each alignment's constants to this round's features of the public inputs (:meth:`Alignment.condition`)."""
    features: dict[str, list[Tensor]] = {}
    directions: dict[str, list[Tensor]] = {}
    for name, pool in pools.items():
        encoded = _features(injector, name, pool)
        for modality, tokens in encoded.items():
            features.setdefault(modality, []).append(tokens)
        for modality, direction in guide(name, encoded).items():
            directions.setdefault(modality, []).append(direction)
    for modality, parts in features.items():
        alignment = injector.alignment[modality]
        assert isinstance(alignment, Alignment)
        alignment.condition(torch.cat(parts), torch.stack(directions[modality]), gain)


def _features(injector: Injector, task: str, pool: Sequence[Sample]) -> dict[str, Tensor]:
    """Of all public inputs of a task, ``[n, k, W]`` by modality; encoded a few at a time."""
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for start in range(0, len(pool), AT_ONCE):
            inputs = stack_inputs(pool[start : start + AT_ONCE], injector.tasks[task].modalities)
            for modality, tokens in injector.encode(task, inputs).items():
                parts.setdefault(modality, []).append(tokens)
    return {modality: torch.cat(tokens) for modality, tokens in parts.items()}


def _first_tokens(injector: Injector, task: str) -> Tensor:
    ids = [injector.tokens.answer(answer) for answer in injector.tasks[task].answers or ()]
    if any(len(answer) != 1 for answer in ids):
        raise FedkimError(
            f"task {task!r}",
            found="answers of several tokens in this language model",
            expected="one token each",
            remedy='set injection.teacher = "none"',
        )
    return torch.tensor([answer[0] for answer in ids], device=injector.llm.device)
