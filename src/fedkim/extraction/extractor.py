"""Extractor: one encoder per modality and one decoder per task, f(x) = DEC_t(ENC_m(x)), as a single module.

State keys are ``encoder.<modality>.…`` and ``decoder.<task>.…``, so a component is averaged, sliced and owned by its
name alone (FEDKIM, "Knowledge Extraction on Clients").
"""

# B batch, b rows that have the modality, T tokens, W width, K answers

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError, unknown
from fedkim.extraction.batches import Batch
from fedkim.modalities import MODALITIES, modalities_of
from fedkim.modalities.initialise import build
from fedkim.randomness import generator_for
from fedkim.recipe import Extraction
from fedkim.state import State, component
from fedkim.tasks import Task

Thin = Callable[[Tensor], Tensor]
"""Dropout with a generator of its own: torch's draws from the global one, which sites that train side by side share."""


def dropout(share: float, generator: torch.Generator) -> Thin:
    """Zero this share of a tensor's elements and scale the others so that the mean stays."""

    def thin(x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape, generator=generator) >= share) / (1 - share)

    return thin if share else lambda x: x


class Decoder(nn.Module):
    """The head of one task: ``[B, M·W] → [B, K]`` logits, one for each answer in the task's order."""

    def __init__(self, features: int, width: int, answers: int):
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.answer = nn.Linear(width, answers)

    def forward(self, features: Tensor, thin: Thin = lambda x: x) -> Tensor:
        """Decide; ``thin`` is the dropout of the training, on the features and on the hidden layer."""
        return self.answer(thin(functional.gelu(self.hidden(thin(features)))))


class Extractor(nn.Module):
    """Encoders by modality, decoders by task.

    Every part starts from (seed, component) alone: sites that hold different parts, and the server, agree on the ones
    they share. Nothing is drawn from torch's global generator, so several may be made side by side.

    Args:
        tasks: what to decide; free-text tasks have no decoder and are passed over.
        shapes: input shape by modality; a modality that is absent here has no encoder and counts as zeros.
        settings: width, encoders and tokens.
        seed: of the first weights.

    Raises:
        FedkimError: an unregistered modality or encoder, or a task none of whose modalities is there.
    """

    def __init__(
        self,
        *,
        tasks: Iterable[Task],
        shapes: Mapping[str, tuple[int, ...]],
        settings: Extraction | None = None,
        seed: int = 0,
    ):
        super().__init__()
        settings = settings or Extraction()
        self.width = settings.width
        self.tasks = {task.name: task for task in tasks if task.answers is not None}
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        for name in modalities_of(self.tasks.values()):
            if name in shapes:
                make = partial(_encoder, name, tuple(shapes[name]), settings)
                self.encoder[name] = build(make, generator_for(seed, "first weights", f"encoder.{name}"))
        for task in self.tasks.values():
            inputs = modalities_of([task])
            if not any(name in self.encoder for name in inputs):
                raise FedkimError(
                    f"task {task.name!r}",
                    found=f"data with {', '.join(sorted(shapes)) or 'no modality'} only",
                    expected=f"one of its modalities: {', '.join(inputs)}",
                    remedy="leave the task out or add data",
                )
            make_decoder = partial(Decoder, len(inputs) * self.width, self.width // 2, len(task.answers or ()))
            self.decoder[task.name] = build(make_decoder, generator_for(seed, "first weights", f"decoder.{task.name}"))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts, such as ``encoder.image``, sorted."""
        return tuple(sorted({component(key) for key in self.state_dict()}))

    def state(self) -> State:
        """A copy of the weights."""
        return State({key: tensor.clone() for key, tensor in self.state_dict().items()})

    def load(self, state: Mapping[str, Tensor]) -> "Extractor":
        """Take the weights of its components from ``state`` (which may hold others too) and give itself.

        Raises:
            FedkimError: a tensor is missing or has another shape.
        """
        for key, own in self.state_dict().items():
            if key not in state:
                raise FedkimError(
                    f"weights of {component(key)!r}", found=f"no tensor {key!r}", remedy="check the recipe"
                )
            if state[key].shape != own.shape:
                raise FedkimError(
                    f"weights of {component(key)!r}",
                    found=f"{key!r} of shape {tuple(state[key].shape)}",
                    expected=str(tuple(own.shape)),
                    remedy="inputs, width and tokens must be the same at every site",
                )
        self.load_state_dict({key: state[key] for key in self.state_dict()})
        return self

    def encode(self, modality: str, x: Tensor) -> Tensor:
        """Tokens ``[B, T, W]`` of a batch of one modality.

        Raises:
            FedkimError: there is no such encoder.
        """
        if modality not in self.encoder:
            raise unknown("encoder", modality, self.encoder)
        return self.encoder[modality](x)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Mean over tokens ``[B, W]`` by modality; rows of samples without the modality are zeros."""
        features = {}
        for modality, x in batch.inputs.items():
            if modality in self.encoder:
                pooled = self.encode(modality, x).mean(1)
                if len(pooled) < batch.size:
                    pooled = pooled.new_zeros(batch.size, self.width).index_copy(0, batch.rows[modality], pooled)
                features[modality] = pooled
        return features

    def decide(self, features: Mapping[str, Tensor], task: str, thin: Thin = lambda x: x) -> Tensor:
        """Logits ``[B, K]`` of one task from the features of a batch; ``thin`` is the training's dropout.

        Raises:
            FedkimError: there is no such decoder, or none of the task's modalities is in the batch.
        """
        if task not in self.decoder:
            raise unknown("task", task, self.decoder)
        inputs = modalities_of([self.tasks[task]])
        here = [features[name] for name in inputs if name in features]
        if not here:
            raise FedkimError(f"task {task!r}", found="no input", expected=f"one of: {', '.join(inputs)}")
        missing = torch.zeros_like(here[0])
        return self.decoder[task](torch.cat([features.get(name, missing) for name in inputs], dim=1), thin)

    def forward(self, batch: Batch, task: str) -> Tensor:
        """Logits ``[B, K]`` of one task."""
        return self.decide(self.features(batch), task)


def usable(sample: Sample, task: Task) -> bool:
    """Whether a sample teaches a task: it is labelled and has at least one of the task's modalities."""
    return task.name in sample.labels and any(name in sample.inputs for name in modalities_of([task]))


def owned_components(dataset: Dataset, tasks: Sequence[Task]) -> dict[str, int]:
    """The components that a site with these samples trains, and the examples behind each.

    An encoder counts the distinct samples that have its modality and a label of one of the tasks that read it; a
    decoder counts the labelled samples of its task. What has no example isn't owned: the site neither gets nor sends it.
    """
    return dict(sorted(Counter(name for name, _ in component_samples(dataset, tasks)).items()))


def component_samples(dataset: Dataset, tasks: Sequence[Task]) -> Iterator[tuple[str, Sample]]:
    """Every component with every sample that trains it."""
    closed = [task for task in tasks if task.answers is not None]
    for sample in dataset:
        taught = [task for task in closed if usable(sample, task)]
        for task in taught:
            yield f"decoder.{task.name}", sample
        for name in modalities_of(taught):
            if name in sample.inputs:
                yield f"encoder.{name}", sample


def _encoder(name: str, shape: tuple[int, ...], settings: Extraction) -> nn.Module:
    modality = MODALITIES[name]
    choice = settings.encoders.get(name, next(iter(modality.encoders)))
    if choice not in modality.encoders:
        raise unknown(f"encoder of {name}", choice, modality.encoders)
    return modality.encoders[choice](shape, settings.width, settings.tokens.get(name, modality.tokens))
