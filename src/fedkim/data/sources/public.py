"""The ``public`` source: any of the public sets, from your own copies in their published layout, as one data set.

All sets are read, decoded, searched for the same picture under two names, and only then split, over all of them at once:
the normal films of one set can't be trained on here and tested there.
"""

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from fedkim.data import cache, fingerprints, leaks
from fedkim.data.decoding import decode
from fedkim.data.fingerprints import digest
from fedkim.data.leaks import Twins, check_ids, twins
from fedkim.data.paper_split import exposure, place_by_row
from fedkim.data.public_sets import Reading, find_set, known_sets
from fedkim.data.record import Record
from fedkim.data.sample import HELD_OUT, Dataset, Sample
from fedkim.data.split_registry import Registry, register
from fedkim.data.splits import check_disjoint
from fedkim.errors import FedkimError
from fedkim.progress import Plain, Progress
from fedkim.recipe import Recipe

MEND = "copy the file again from its source, or take it out of the copy with the rows that name it"
"""The remedy for an input that can't be read."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What a recipe's sets hold, before anyone is split."""

    records: Sequence[Record]
    tensors: Sequence[Mapping[str, Tensor]]
    same: Sequence[Twins]
    name: str


def load(recipe: Recipe) -> Dataset:
    """The sets that ``[data] roots`` names as one Dataset, splits assigned; labels of unseen tasks in the held-out splits alone.

    Raises:
        FedkimError: no set, an unknown one, a folder that isn't there, tables or files that can't be used, a task that
            none of the sets has labels for, ids written in two ways, inputs of different shapes.
    """
    cohort = gather(recipe, progress=Plain(sys.stderr))
    if recipe.data.split == "paper":
        return Dataset(_by_row(cohort, recipe), name=cohort.name)
    registry = deal(cohort, recipe)
    if registry.merged:
        _tell(f"{registry.merged} patients share a picture or wave with another; each such group is one patient")
    dataset = Dataset(_by_registry(cohort, registry, recipe), name=cohort.name)
    check_disjoint(dataset)
    return dataset


def read(recipe: Recipe) -> list[Record]:
    """The records of all sets that have a label of one of the recipe's tasks (other labels dropped). Nothing is decoded."""
    data, tasks = recipe.data, (*recipe.tasks.seen, *recipe.tasks.unseen)
    if not data.roots:
        raise FedkimError(
            "[data] roots", found="no data set", expected='a folder by set, such as {rsna = "/data/rsna"}'
        )
    sets = {name: find_set(name) for name in data.roots}
    for name in data.versions:
        if name not in sets:
            raise FedkimError(f"[data] versions: {name!r}", expected="a set that roots names")
        if data.versions[name] not in sets[name].versions:
            raise FedkimError(
                f"[data] versions: {name!r}",
                found=repr(data.versions[name]),
                expected=" or ".join(map(repr, sets[name].versions)) or "no version: there is one",
            )
    records: list[Record] = []
    for name, chosen in sets.items():
        root = Path(data.roots[name])
        if not root.is_dir():
            raise FedkimError(f"[data] roots: {name!r}", found=f"no folder {root}", remedy="check the path")
        reading = Reading(
            labels=data.labels,
            version=data.versions.get(name, ""),
            language=data.language,
            image_size=data.image_size,
            roots=data.roots,
        )
        for record in chosen.read(root, reading):
            labels = {task: answer for task, answer in record.labels.items() if task in tasks}
            if labels and record.inputs:
                questions = {task: text for task, text in record.questions.items() if task in labels}
                records.append(replace(record, labels=labels, questions=questions))
    held = {task for record in records for task in record.labels}
    for task in tasks:
        if task not in held:
            having = [name for name, chosen in sets.items() if task in chosen.tasks]
            elsewhere = [name for name, other in known_sets().items() if task in other.tasks]
            remedy = f"add {' or '.join(elsewhere)} to [data] roots" if elsewhere else "take it from [tasks]"
            raise FedkimError(
                f"task {task!r}",
                found=f"no row with a label of it in {', '.join(having or sets)}",
                remedy="check the copy: fedkim data check" if having else remedy,
            )
    check_ids([record.patient for record in records]).raise_for_errors("[data] roots")
    return records


def gather(recipe: Recipe, *, progress: Progress | None = None) -> Cohort:
    """The records, decoded and compared with each other."""
    records = read(recipe)
    name = "+".join(recipe.data.roots)
    try:
        tensors = decode(records, workers=recipe.run.workers, progress=progress, name=name)
    except FedkimError as error:
        raise _of_a_record(error, records, recipe.data.roots) from None
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for record, inputs in zip(records, tensors):
        for modality, tensor in inputs.items():
            shape, first = shapes.setdefault(modality, (tuple(tensor.shape), record.id))
            if shape != tuple(tensor.shape):
                raise FedkimError(
                    f"{modality} of sample {record.id}",
                    found=f"shape {tuple(tensor.shape)}",
                    expected=f"{shape} as sample {first}",
                    remedy="leave one of the two sets out of [data] roots",
                )
    return Cohort(records=records, tensors=tensors, same=_same(records, tensors, name), name=name)


def _of_a_record(error: FedkimError, records: Sequence[Record], roots: Mapping[str, str]) -> FedkimError:
    """An input's error with the record that it is of, and with what can be done about a copy of a public set."""
    for record in records:
        for given in record.inputs:
            named = error.what.endswith((str(given.path), str(given.path.with_suffix(""))))
            homes = [name for name, root in roots.items() if given.path.is_relative_to(root)]
            if named and homes and error.code:
                check = shlex.join(["fedkim", "data", "check", homes[0], roots[homes[0]], "--contents"])
                return FedkimError(
                    f"sample {record.id}: {error.what}",
                    found=error.found,
                    expected=error.expected,
                    remedy=f"{MEND}; {check} tells all such files",
                    code=error.code,
                )
    return error


def _same(records: Sequence[Record], tensors: Sequence[Mapping[str, Tensor]], name: str) -> list[Twins]:
    """:func:`~fedkim.data.leaks.twins`, remembered: comparing everything with everything grows with the square."""
    facts = [
        [record.patient, *(digest(tensor) for tensor in inputs.values())] for record, inputs in zip(records, tensors)
    ]
    key = cache.content_key([], facts, rules=(fingerprints, leaks))
    entry = cache.cached(
        f"twins-{name}",
        key,
        lambda: cache.Entry(tensors={}, facts=[asdict(pair) for pair in twins(records, tensors)]),
    )
    return [Twins(**pair) for pair in entry.facts]


def deal(cohort: Cohort, recipe: Recipe) -> Registry:
    """The registry of the recipe's splits."""
    return register(cohort.records, seed=recipe.run.seed, unseen_tasks=recipe.tasks.unseen, same=cohort.same)


def _by_registry(cohort: Cohort, registry: Registry, recipe: Recipe) -> Iterator[Sample]:
    unseen = set(recipe.tasks.unseen)
    for record, inputs in zip(cohort.records, cohort.tensors):
        split = registry.splits[record.patient]
        labels = {task: a for task, a in record.labels.items() if split in HELD_OUT or task not in unseen}
        if labels:
            yield record.sample(inputs, split=split, labels=labels)


def _by_row(cohort: Cohort, recipe: Recipe) -> Iterator[Sample]:
    rows = place_by_row(cohort.records, seen=recipe.tasks.seen, seed=recipe.run.seed)
    _tell("[data] split = 'paper' splits by row and leaks; scores on it say nothing about new patients")
    for line in exposure(cohort.records, rows, cohort.same):
        _tell(str(line))
    names: dict[str, int] = {}
    for row in rows:
        record = cohort.records[row.record]
        labels = {task: answer for task, answer in record.labels.items() if task in row.tasks}
        copy = names[record.id] = names.get(record.id, 0) + 1
        id = record.id if copy == 1 else f"{record.id}#{copy}"
        yield replace(record.sample(cohort.tensors[row.record], split=row.split, labels=labels), id=id)


def _tell(text: str) -> None:
    logging.getLogger("fedkim.data").warning(text)
