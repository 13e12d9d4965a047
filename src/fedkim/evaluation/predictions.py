"""Predictions: what one method said about one task, beside the truth, ready to be scored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedkim.errors import FedkimError

PER_SAMPLE = ("samples", "patients", "truth", "generated", "sites", "groups", "templates", "folds")
"""Columns of :class:`Predictions` with one value a sample; ``probabilities`` is the one that is a table."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Answers of one method to one task on n samples; a value, never changed by scoring.

    Classification: ``answers`` names the K classes (negative first) and ``probabilities`` is ``[n, K]``.
    Free text: ``answers`` is None and ``generated`` holds n texts, word for word as the model gave them.

    Raises:
        FedkimError: lengths that disagree, a truth outside the answers, a probability that is no probability.
    """

    task: str
    split: str
    samples: tuple[str, ...]
    patients: tuple[str, ...]
    """The unit of every interval, one per sample."""
    truth: tuple[str, ...]
    """The right answer in words, one per sample."""
    answers: tuple[str, ...] | None = None
    probabilities: np.ndarray | None = None
    generated: tuple[str, ...] | None = None
    sites: tuple[str, ...] = ()
    """The site each sample comes from; empty: unknown, and no per-site scores."""
    groups: tuple[frozenset[str], ...] = ()
    """Sub-populations each sample belongs to."""
    within: str | None = None
    """The group in which the primary score is computed; None: all samples."""
    templates: tuple[str, ...] = ()
    """For free text: the question's template, for the majority-per-template reference."""
    folds: tuple[str, ...] = ()
    """For pooled out-of-fold scores: the fold in which the sample was tested."""

    def __post_init__(self) -> None:
        n = len(self.samples)
        for name in PER_SAMPLE:
            column = getattr(self, name)
            required = name in ("patients", "truth") or (name == "generated" and self.answers is None)
            if column is None or (len(column) == 0 and n > 0):
                if required:
                    raise FedkimError(f"predictions of task {self.task!r}", found=f"no {name}", expected=f"{n} of them")
            elif len(column) != n:
                raise FedkimError(
                    f"predictions of task {self.task!r}", found=f"{len(column)} {name}", expected=f"{n}, one per sample"
                )
        if len(set(self.samples)) != n:
            raise FedkimError(f"predictions of task {self.task!r}", found="a sample twice", expected="each sample once")
        if self.answers is not None:
            self._check_probabilities(n, self.answers)

    def _check_probabilities(self, n: int, answers: tuple[str, ...]) -> None:
        name = f"predictions of task {self.task!r}"
        outside = set(self.truth) - set(answers)
        if outside:
            raise FedkimError(
                name, found=f"{len(outside)} true answers outside the task's", expected=" or ".join(answers)
            )
        if self.probabilities is None or np.shape(self.probabilities) != (n, len(answers)):
            found = "none" if self.probabilities is None else str(np.shape(self.probabilities))
            raise FedkimError(f"{name}: probabilities", found=found, expected=str((n, len(answers))))
        table = np.array(self.probabilities, dtype=np.float64)
        if not np.isfinite(table).all() or (table < 0).any() or (np.abs(table.sum(axis=1) - 1) > 1e-3).any():
            raise FedkimError(
                f"{name}: probabilities",
                found="rows that are no distribution",
                expected="finite, not negative, each row summing to 1",
                remedy="look for a diverged model (NaN) or unnormalised scores",
            )
        table.setflags(write=False)  # a private copy: nobody's later edit can change what was scored
        object.__setattr__(self, "probabilities", table)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kind(self) -> str:
        """``"classification"`` or ``"text"``."""
        return "text" if self.answers is None else "classification"

    @property
    def labels(self) -> np.ndarray:
        """Index of the true answer, ``[n]`` int (classification)."""
        index = {answer: position for position, answer in enumerate(self.answers or ())}
        return np.array([index[word] for word in self.truth], dtype=np.int64)

    @property
    def scores(self) -> np.ndarray:
        """Probability of the last answer, ``[n]``: the binary score (classification)."""
        assert self.probabilities is not None
        return self.probabilities[:, -1]

    def take(self, keep: Sequence[bool] | np.ndarray) -> "Predictions":
        """The samples where the mask ``keep`` (``[n]`` bool) holds, in order."""
        kept = np.flatnonzero(np.asarray(keep, dtype=bool))

        def pick(column: tuple | None) -> tuple | None:
            return tuple(column[i] for i in kept) if column else column

        columns: dict[str, Any] = {name: pick(getattr(self, name)) for name in PER_SAMPLE}
        return replace(self, probabilities=None if self.probabilities is None else self.probabilities[kept], **columns)

    def primary(self) -> "Predictions":
        """The samples of the group ``within``, or all of them."""
        if self.within is None:
            return self
        return self.take([self.within in group for group in self.groups] if self.groups else [False] * len(self))


Rows = dict[str, dict[str, Predictions]]
"""Predictions by task and row name."""


def pool(parts: Iterable[tuple[str, Predictions]]) -> Predictions:
    """Out-of-fold predictions of several folds as one, each sample tagged with its fold's name.

    Scores are concatenated as they are: they're probabilities of the same recipe, so they share a scale as far as the
    folds' models agree. Where they don't, the pooled AUROC falls below the mean within folds; where folds of few patients differ
    in prevalence it may rise above it, for it scores then which patient it is. So both are reported.

    Raises:
        FedkimError: no fold, folds of different tasks, or a sample tested in two folds.
    """
    everything = list(parts)
    if not everything:
        raise FedkimError("pooling over folds", found="no fold", expected="at least one")
    folds = [(name, part) for name, part in everything if len(part)] or everything[:1]
    first = folds[0][1]
    for _, part in folds[1:]:
        if (part.task, part.answers, part.within, part.split) != (first.task, first.answers, first.within, first.split):
            raise FedkimError("pooling over folds", found=f"tasks {first.task!r} and {part.task!r} or splits mixed")

    def chain(name: str) -> tuple | None:
        columns = [getattr(part, name) for _, part in folds]
        if columns[0] is None:
            return None
        return tuple(item for column in columns for item in column) if all(columns) else ()

    columns: dict[str, Any] = {name: chain(name) for name in PER_SAMPLE}
    columns["folds"] = tuple(name for name, part in folds for _ in part.samples)
    tables = [part.probabilities for _, part in folds if part.probabilities is not None]
    return replace(first, probabilities=np.concatenate(tables) if tables else None, **columns)
