"""Sample: one observation of one patient, and Dataset: an ordered collection of them with its splits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

SPLITS = ("private", "public", "development", "test")
HELD_OUT = ("development", "test")
"""Splits that nothing is trained on: here alone have samples the labels of unseen tasks."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One observation (an image, an ECG window, an ICU stay) with the labels known for it."""

    id: str
    """Unique in the data set, such as ``"nih/00001697_011"``; enough to find the file again."""
    patient: str
    """The unit of splitting and of every confidence interval, such as ``"nih/1697"``."""
    site: str = ""
    """The natural site it comes from, empty if unknown; who *holds* it is the partition's matter."""
    split: str
    """``private``, ``public``, ``development`` or ``test``."""
    inputs: Mapping[str, Tensor]
    """Preprocessed float32 tensors by modality (often views into a memory-mapped file)."""
    labels: Mapping[str, str]
    """Answers by task, as the words the LLM should give: ``{"effusion": "Yes"}``."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """For free-text tasks: the question this sample asks."""
    groups: frozenset[str] = frozenset()
    """Sub-populations in which a task's primary score is computed (``Task.within``)."""
    strata: Mapping[str, str] = field(default_factory=dict)
    """Non-identifying facts for tables and baselines (question template, record, source)."""


class Dataset:
    """An ordered collection of samples. Filters give new Datasets; tensors are shared, never copied."""

    def __init__(self, samples: Iterable[Sample], *, name: str = "", synthetic: bool = False):
        self.samples = tuple(samples)
        self.name, self.synthetic = name, synthetic

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def where(self, keep: Callable[[Sample], bool]) -> "Dataset":
        """The samples for which ``keep`` holds, in order."""
        return Dataset((s for s in self.samples if keep(s)), name=self.name, synthetic=self.synthetic)

    def split(self, name: str) -> "Dataset":
        """One split."""
        return self.where(lambda sample: sample.split == name)

    def labelled(self, task: str) -> "Dataset":
        """Samples with an answer for ``task``."""
        return self.where(lambda sample: task in sample.labels)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Input shape by modality, from the first sample that has it."""
        shapes: dict[str, tuple[int, ...]] = {}
        for sample in self.samples:
            for modality, tensor in sample.inputs.items():
                shapes.setdefault(modality, tuple(tensor.shape))
        return shapes
