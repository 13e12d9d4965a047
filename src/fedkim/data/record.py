"""Record: one observation that is known but not yet decoded; what a reader of a data set's tables yields.

Splits, leaks and statistics are decided on records, before a single picture is opened; only then are they decoded into
:class:`~fedkim.data.sample.Sample` (``fedkim.data.decoding``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from fedkim.data.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Input:
    """Where one modality of a record lies, and how to read it.

    ``read(path, **settings)`` gives the canonical tensors by modality: an ICU table gives four at once. It must be a
    module's own function and the settings plain values: both go to worker processes and into the cache's key.
    """

    path: Path
    """The file whose bytes the input comes from."""
    read: Callable[..., Mapping[str, Tensor]]
    settings: Mapping[str, object] = field(default_factory=dict)
    companions: tuple[Path, ...] = ()
    """More files that the reader opens (WFDB's ``.dat`` beside the ``.hea``)."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A row of a data set: the fields of a Sample, with files in place of tensors."""

    id: str
    """Unique in the data set, such as ``"rsna/0004cfab-…"``."""
    patient: str
    """The unit of splitting, prefixed by its source: ``"ptbxl/15709"``; two sources may name one patient differently."""
    inputs: tuple[Input, ...]
    labels: Mapping[str, str]
    questions: Mapping[str, str] = field(default_factory=dict)
    site: str = ""
    """Natural site (device, source, view), empty if unknown."""
    published_split: str = ""
    """The split in which the data set's authors put it, in their own word; empty if they didn't."""
    groups: frozenset[str] = frozenset()
    strata: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_set(self) -> str:
        """Name of the set that it is of: what stands before the slash of its id."""
        return self.id.partition("/")[0]

    def sample(self, inputs: Mapping[str, Tensor], *, split: str, labels: Mapping[str, str]) -> Sample:
        """The record decoded: with these tensors, in this split, with those of its labels that may be seen there."""
        return Sample(
            id=self.id,
            patient=self.patient,
            site=self.site,
            split=split,
            inputs=inputs,
            labels=labels,
            questions={task: text for task, text in self.questions.items() if task in labels},
            groups=self.groups,
            strata=self.strata,
        )
