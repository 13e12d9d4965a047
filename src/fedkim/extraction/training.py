"""Local training: what a site does between a broadcast and its update.

L_n = (1/T_n) Σ_t (1/|D_n,t|) Σ ℓ_t(f_n(x), y) over the tasks the site holds, plus the algorithm's penalty for drifting
from the broadcast (FEDKIM, "Knowledge Extraction on Clients"). ``task_weights = "gradient"``, ours, gives the tasks other
weights than 1/T_n. The same function trains the public set, with the server in the place of a site.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.extraction.batches import Batch, shared_batches
from fedkim.extraction.extractor import Extractor, dropout, owned_components, usable
from fedkim.modalities import MODALITIES, modalities_of
from fedkim.randomness import generator_for
from fedkim.recipe import Extraction
from fedkim.state import Penalty, State, Update
from fedkim.tasks import Task


class DivergedError(FedkimError):
    """A site's loss isn't finite any more: it has nothing to send in this round."""


def train_site(
    *,
    site: str,
    round: int,
    dataset: Dataset,
    state: State,
    tasks: Sequence[Task],
    settings: Extraction,
    penalty: Penalty | None = None,
    seed: int,
) -> Update:
    """Train from the broadcast for some local epochs and give what the site sends.

    One step takes a batch for each set of modalities, which its tasks share, and descends on the mean of the tasks' losses; an epoch ends when
    the largest task has been seen once, smaller ones cycle. Adam starts afresh each round. All randomness comes from
    (seed, site, round, purpose) and none from torch's global generator: sites may train side by side in threads.

    Args:
        site: its name.
        round: number of the round.
        dataset: the samples the site holds.
        state: the broadcast; of it only the components the site owns are read, kept and sent.
        tasks: the seen tasks; those without a usable sample here are passed over.
        settings: the recipe's extraction table.
        penalty: the algorithm's price of drifting; it also gets the broadcast weights.
        seed: of the run.

    Raises:
        FedkimError: no usable sample, a label that is no answer of its task, or weights that don't fit the inputs.
        DivergedError: a loss that isn't finite.
    """
    began = time.perf_counter()
    num_examples = owned_components(dataset, tasks)
    if not num_examples:
        names = ", ".join(task.name for task in tasks)
        raise FedkimError(f"site {site!r}", found="no usable sample", expected=f"labels and inputs for one of: {names}")
    held = [task for task in tasks if f"decoder.{task.name}" in num_examples]
    shapes = {name: shape for name, shape in dataset.shapes().items() if f"encoder.{name}" in num_examples}
    broadcast = state.slice(num_examples)
    extractor = Extractor(tasks=held, shapes=shapes, settings=settings, seed=seed).load(broadcast)
    extractor.train()
    parameters = dict(extractor.named_parameters())
    encoders = list(extractor.encoder.parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=settings.learning_rate, fused=True)

    totals = {task.name: 0.0 for task in held}
    counts = {task.name: 0 for task in held}
    steps = settings.local_epochs * -(
        -max(num_examples[f"decoder.{task.name}"] for task in held) // settings.batch_size
    )
    batches = _steps(dataset, held, settings, seed, site, round)
    thin = dropout(settings.dropout, generator_for(seed, site, round, "dropout"))
    for _ in range(steps):
        losses: dict[str, Tensor] = {}
        for batch, targets in next(batches):
            features = extractor.features(batch)
            for name, (rows, target) in targets.items():
                losses[name] = functional.cross_entropy(extractor.decide(features, name, thin)[rows], target)
                totals[name] += losses[name].item() * len(rows)
                counts[name] += len(rows)
        for name, value in losses.items():
            if not value.isfinite():
                raise DivergedError(
                    f"site {site!r}, task {name!r}, round {round}",
                    found="a loss that isn't finite",
                    remedy="check its inputs for NaN or lower extraction.learning_rate",
                    code="E-DIVERGED",
                )
        values = list(losses.values())
        loss = torch.stack(values).mean() if settings.task_weights == "equal" else evenly_moving(values, encoders)
        if penalty:
            loss = loss + penalty(parameters, broadcast)
        optimizer.zero_grad()
        loss.backward()
        if settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(parameters.values(), settings.gradient_clip)
        optimizer.step()

    means = {name: totals[name] / counts[name] for name in totals if counts[name]}
    metrics = {"loss": sum(means.values()) / len(means), **{f"loss.{name}": value for name, value in means.items()}}
    return Update(
        site=site,
        round=round,
        base_digest=broadcast.digest(),
        state=extractor.state(),
        num_examples=num_examples,
        metrics={**metrics, "steps": float(steps), "seconds": time.perf_counter() - began},
    )


def evenly_moving(losses: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
    """The losses' weighted mean in which each has a gradient of the same length at the shared parameters.

    What GradNorm learns weights for (Chen et al., ICML 2018), taken exactly at every step. Under equal weights the task whose
    gradient is longest shapes the encoders first, and another may find nothing of its own in them for many rounds. The weights sum to 1, so
    the step is about as long as the shortest gradient; Adam makes up for what of that is steady.

    Args:
        losses: a scalar of each task.
        shared: parameters; each loss depends on some of them.
    """
    if len(losses) == 1:
        return losses[0]
    lengths = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        lengths.append(torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt())
    weights = 1 / (torch.stack(lengths) + _SHORTEST)
    return (torch.stack(list(losses)) * weights).sum() / weights.sum()


_SHORTEST = 1e-6
"""Added to a gradient's length: a task that moves nothing has no weight without end."""

Targets = dict[str, tuple[Tensor, Tensor]]
"""By task: the rows of the batch that it labels, and the numbers of their answers."""


def _steps(
    dataset: Dataset, tasks: Sequence[Task], settings: Extraction, seed: int, site: str, round: int
) -> Iterator[list[tuple[Batch, Targets]]]:
    """Endless steps; a step is one augmented batch for each set of modalities, with the targets of its tasks."""
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task in tasks:
        groups.setdefault(modalities_of([task]), []).append(task)
    draws = [
        _draw(dataset, modalities, members, settings, (seed, site, round)) for modalities, members in groups.items()
    ]
    while True:
        yield [next(draw) for draw in draws]


def _draw(
    dataset: Dataset,
    modalities: tuple[str, ...],
    tasks: Sequence[Task],
    settings: Extraction,
    purpose: tuple[int, str, int],
) -> Iterator[tuple[Batch, Targets]]:
    seed, site, round = purpose
    numbers = {task.name: _answers(dataset, task, site) for task in tasks}
    kinds = {task.name: {answer: kind for kind, answer in enumerate(task.answers or ())} for task in tasks}
    group = "+".join(modalities)
    order = generator_for(seed, site, round, "batches", group)
    chance = {name: generator_for(seed, site, round, "augmentation", group, name) for name in modalities}
    for chosen in shared_batches(numbers, batch_size=settings.batch_size, balanced=settings.balanced, generator=order):
        batch = Batch.of([dataset.samples[number] for number in chosen], modalities)
        if settings.augment:
            batch = replace(batch, inputs={name: _augmented(name, x, chance[name]) for name, x in batch.inputs.items()})
        targets = {}
        for task in tasks:
            labels = numbers[task.name]
            rows = [row for row, number in enumerate(chosen) if number in labels]
            if rows:
                target = [kinds[task.name][labels[chosen[row]]] for row in rows]
                targets[task.name] = (torch.tensor(rows), torch.tensor(target))
        yield batch, targets


def _answers(dataset: Dataset, task: Task, site: str) -> dict[int, str]:
    """The answers of a task's usable samples by their number in the data set."""
    answers = {number: sample.labels[task.name] for number, sample in enumerate(dataset) if usable(sample, task)}
    for answer in answers.values():
        if answer not in (task.answers or ()):
            raise FedkimError(
                f"site {site!r}, task {task.name!r}",
                found="a label that is none of its answers",
                expected=" or ".join(task.answers or ()),
            )
    return answers


def _augmented(modality: str, x: Tensor, generator: torch.Generator) -> Tensor:
    augment = MODALITIES[modality].augment
    return x if augment is None else augment(x, generator)
