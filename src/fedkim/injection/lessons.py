"""Lessons: what the aggregated decoders would answer, as targets of the injection. Ours, not the paper's.

Shapes: B rows, k tokens of a modality, W encoder width, K answers.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.errors import FedkimError
from fedkim.injection.injector import Injector
from fedkim.injection.pools import Pools, encode_pool

Teacher = Callable[[str, Mapping[str, Tensor]], Tensor]
"""``(task, features by modality [B, k, W]) -> [B, K]`` log-probabilities of the aggregated decoder."""


class Lessons:
    """Answers as distributions in the place of single words: the decoders' on public inputs, or the public labels' own, mixed.

    A few hundred public inputs, mixed two by two, show a decoder whole, where their own labels (a dozen deaths) don't.

    Args:
        injector: whose encoders make the features.
        pools: the public inputs.
        teacher: the round's decoders; None: the public labels, in the shares of the mix-up.
        mixup: the recipe's ``injection.mixup``: whether rows are mixed two by two, and whether along the line between them or,
            under a teacher, ``rotated`` about the public mean.

    Raises:
        FedkimError: a task with an answer of several tokens.
    """

    def __init__(self, injector: Injector, pools: Pools, teacher: Teacher | None, *, mixup: str):
        self.teacher, self.mixup = teacher, mixup
        self.answers = {name: injector.tasks[name].answers or () for name in pools}
        self.first_tokens = {name: first_tokens(injector, name, taught=teacher is not None) for name in pools}
        """By task: the token of each answer."""
        self.centres: dict[str, Tensor] = {}
        """By task: its answers' mean log-probabilities over the public inputs, so that rare answers count as much as frequent ones."""
        self.means: dict[tuple[str, ...], dict[str, Tensor]] = {}
        """By modalities: the mean features ``[1, k, W]`` of the public inputs that any of their tasks is taught on."""
        if teacher is None:
            return
        encoded = {name: encode_pool(injector, name, pool) for name, pool in pools.items()}
        with torch.no_grad():
            self.centres = {name: teacher(name, features).mean(0) for name, features in encoded.items()}
        self.means = _means(pools, encoded)

    def give(
        self,
        tasks: Sequence[str],
        features: Mapping[str, Tensor],
        generator: torch.Generator,
        samples: Sequence[Sample] = (),
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The rows' features, mixed if so chosen, and for each row its answers' probabilities ``[K]``.

        Along a line they become ``λ·e_i + (1−λ)·e_j``, λ uniform. Those lie closer together than the inputs do (two thirds of
        their variance), and a decoder is learned on less than it will meet; rotated, ``ē + cos θ·(e_i − ē) + sin θ·(e_j − ē)``
        with θ uniform in a quarter turn, they vary as much as the inputs.

        Under a teacher any two rows are mixed, for it answers whatever it is shown. Labels answer only their own
        question, so without one a row is mixed with another of its task.
        """
        size = len(next(iter(features.values())))
        mixed, partner, share = dict(features), torch.arange(size), torch.ones(size, 1, 1)
        if self.mixup != "never":
            partner = torch.randperm(size, generator=generator)
            if self.teacher is None:
                partner = _within_tasks(tasks, partner.tolist())
            share = torch.rand(size, 1, 1, generator=generator)
            first, second = share, 1 - share
            means = dict.fromkeys(features, torch.zeros(1))
            if self.mixup == "rotated" and size == 1:
                first, second = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
            elif self.mixup == "rotated":
                # a cycle: a row mixed with itself would be stretched
                order = partner
                partner = torch.empty_like(order)
                partner[order] = order.roll(1)
                first, second = (share * math.pi / 2).cos(), (share * math.pi / 2).sin()
                means = self.means[tuple(features)]
            mixed = {
                modality: _mixed(tokens, tokens[partner], means[modality], first, second)
                for modality, tokens in features.items()
            }
        if self.teacher is None:
            return mixed, self._labels(tasks, samples, partner.tolist(), share.flatten().tolist(), mixed)
        targets: dict[int, Tensor] = {}
        with torch.no_grad():
            for task in dict.fromkeys(tasks):
                rows = [row for row, name in enumerate(tasks) if name == task]
                said = self.teacher(task, {modality: tokens[rows] for modality, tokens in mixed.items()})
                for row, target in zip(rows, (said - self.centres[task]).softmax(-1)):
                    targets[row] = target
        return mixed, [targets[row] for row in range(size)]

    def _labels(
        self,
        tasks: Sequence[str],
        samples: Sequence[Sample],
        partner: Sequence[int],
        share: Sequence[float],
        features: Mapping[str, Tensor],
    ) -> list[Tensor]:
        device = next(iter(features.values())).device
        targets = []
        for row, task in enumerate(tasks):
            target = torch.zeros(len(self.answers[task]), device=device)
            target[self.answers[task].index(samples[row].labels[task])] += share[row]
            target[self.answers[task].index(samples[partner[row]].labels[task])] += 1 - share[row]
            targets.append(target)
        return targets


def first_tokens(injector: Injector, task: str, *, taught: bool) -> Tensor:
    """The token of each of a task's answers, ``[K]``; whether decoders teach it tells which setting asks for them.

    Raises:
        FedkimError: an answer of several tokens.
    """
    ids = [injector.tokens.answer(answer) for answer in injector.tasks[task].answers or ()]
    if any(len(answer) != 1 for answer in ids):
        raise FedkimError(
            f"task {task!r}",
            found="answers of several tokens in this language model",
            expected="one token each",
            remedy='set injection.teacher = "none"' if taught else 'set injection.mixup = "taught"',
        )
    return torch.tensor([answer[0] for answer in ids], device=injector.llm.device)


def _means(pools: Pools, encoded: Mapping[str, Mapping[str, Tensor]]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Mean features ``[1, k, W]`` by modalities; an input counts once, however many of the tasks that read it have it in their pool."""
    counted: dict[tuple[str, ...], set[str]] = {}
    parts: dict[tuple[str, ...], dict[str, list[Tensor]]] = {}
    for name, features in encoded.items():
        known = counted.setdefault(tuple(features), set())
        new = [row for row, sample in enumerate(pools[name]) if sample.id not in known]
        known.update(sample.id for sample in pools[name])
        for modality, tokens in features.items():
            parts.setdefault(tuple(features), {}).setdefault(modality, []).append(tokens[new])
    return {
        modalities: {modality: torch.cat(rows).mean(0, keepdim=True) for modality, rows in found.items()}
        for modalities, found in parts.items()
    }


def _mixed(one: Tensor, other: Tensor, mean: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``mean + first·(one − mean) + second·(other − mean)``, row by row."""
    first, second, mean = (part.to(one.device) for part in (first, second, mean))
    return mean + first * (one - mean) + second * (other - mean)


def _within_tasks(tasks: Sequence[str], order: Sequence[int]) -> Tensor:
    """A permutation that keeps rows in their task: each row's partner is the next of its task in ``order``, ``[B]``."""
    partner = list(range(len(tasks)))
    for task in dict.fromkeys(tasks):
        rows = [row for row in order if tasks[row] == task]
        for row, other in zip(rows, rows[1:] + rows[:1]):
            partner[row] = other
    return torch.tensor(partner)
