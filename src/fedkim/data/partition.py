"""The partition: which site holds which private patients. Dealt once; a site keeps its shard for the whole run."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fedkim.data import partitioners
from fedkim.data.sample import Dataset, Sample
from fedkim.data.site_names import site_names
from fedkim.errors import FedkimError, unknown
from fedkim.randomness import numpy_generator_for
from fedkim.tasks import TASKS

KINDS = ("iid", "dirichlet", "natural", "missing-modality", "table", *partitioners.KINDS)


def partition(
    dataset: Dataset,
    *,
    kind: str = "iid",
    num_sites: int = 5,
    alpha: float = 0.5,
    seed: int = 0,
    missing: float = 0.3,
    table: Mapping[str, str] | None = None,
    classes_per_site: int = 2,
    shards_per_site: int = 2,
) -> dict[str, Dataset]:
    """Deal the private patients of ``dataset`` to sites ``"site-1"``, ``"site-2"``, …; all samples of a patient together.

    Args:
        dataset: only its ``private`` split is dealt.
        kind: ``iid`` (every site gets its share of every label) · ``dirichlet`` (the sites' shares of each label are
            Dirichlet(alpha): the smaller, the more they differ) · ``natural`` (``Sample.site`` of a patient's first sample is the site,
            named by :func:`site_names`) · ``missing-modality`` (IID, then each site lacks each modality with chance ``missing``; one
            site keeps them all) · ``table`` · those of :mod:`fedkim.data.partitioners`.
        num_sites: how many sites; ``natural`` and ``table`` bring their own.
        alpha: of ``dirichlet`` and ``inner-dirichlet``.
        seed: the run's seed.
        missing: of ``missing-modality``.
        table: of ``table``: site by patient.
        classes_per_site: of ``pathological``.
        shards_per_site: of ``shard``.

    Raises:
        FedkimError: unknown kind, a patient missing from the table, or a site that ends without a usable row.
    """
    private = dataset.split("private")
    if kind not in KINDS:
        raise unknown("partition", kind, KINDS)
    if num_sites < 1:
        raise FedkimError("num_sites", found=str(num_sites), expected="1 or more")
    if not private.samples:
        raise FedkimError("partition", found="no private samples", remedy="check the data set's splits")
    names = [f"site-{number}" for number in range(1, num_sites + 1)]
    if kind == "natural":
        first: dict[str, str] = {}
        for sample in private:
            first.setdefault(sample.patient, _natural_site(sample))
        named = site_names(set(first.values()))
        shards = _grouped(private, lambda sample: named[first[sample.patient]])
    elif kind == "table":
        shards = _by_table(private, table)
    else:
        if kind in partitioners.KINDS:
            owner = partitioners.deal(
                _classes(private),
                names,
                kind=kind,
                seed=seed,
                alpha=_positive(alpha),
                classes_per_site=classes_per_site,
                shards_per_site=shards_per_site,
            )
        else:
            owner = _dirichlet(private, names, alpha, seed) if kind == "dirichlet" else _iid(private, names, seed)
        shards = {name: [] for name in names} | _grouped(private, lambda sample: owner[sample.patient])
        if kind == "missing-modality":
            shards = _without_modalities(shards, missing, seed)
    for name, samples in shards.items():
        if not any(sample.inputs and sample.labels for sample in samples):
            raise FedkimError(
                f"site {name!r}",
                found="no usable row (an input with a label)",
                expected="at least one",
                remedy="fewer sites, a larger alpha, a smaller missing or another seed",
            )
    order = sorted(shards, key=lambda name: (len(name), name)) if kind in ("natural", "table") else names
    return {name: Dataset(shards[name], name=dataset.name, synthetic=dataset.synthetic) for name in order}


def _iid(private: Dataset, names: list[str], seed: int) -> dict[str, str]:
    """Owner by patient: every label class is shuffled and dealt round and round, one after the other."""
    owner, turn = {}, 0
    for label, patients in sorted(_classes(private).items()):
        for patient in numpy_generator_for(seed, "partition", "iid", label).permutation(patients).tolist():
            owner[patient] = names[turn % len(names)]
            turn += 1
    return owner


def _dirichlet(private: Dataset, names: list[str], alpha: float, seed: int) -> dict[str, str]:
    """Owner by patient: each label class is cut into contiguous shares drawn from Dirichlet(alpha)."""
    _positive(alpha)
    owner = {}
    for label, patients in sorted(_classes(private).items()):
        random = numpy_generator_for(seed, "partition", "dirichlet", label)
        shuffled = random.permutation(patients).tolist()
        shares = random.dirichlet(np.full(len(names), alpha))
        ends = np.round(np.cumsum(shares) * len(shuffled)).astype(int)
        for position, patient in enumerate(shuffled):
            owner[patient] = names[min(int(np.searchsorted(ends, position, side="right")), len(names) - 1)]
    return owner


def _positive(alpha: float) -> float:
    if not alpha > 0:
        raise FedkimError("alpha", found=str(alpha), expected="a number above 0")
    return alpha


def _classes(private: Dataset) -> dict[str, list[str]]:
    """Patients by label class: all closed answers of a patient together (free-text answers are no classes)."""
    answers: dict[str, set[str]] = defaultdict(set)
    for sample in private:
        closed = {f"{task}={answer}" for task, answer in sample.labels.items() if task not in sample.questions}
        answers[sample.patient] |= closed
    classes: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(answers):
        classes[",".join(sorted(answers[patient]))].append(patient)
    return classes


def _natural_site(sample: Sample) -> str:
    if not sample.site:
        raise FedkimError(f"sample {sample.id}", found="no natural site", remedy="use another kind of partition")
    return sample.site


def _by_table(private: Dataset, table: Mapping[str, str] | None) -> dict[str, list[Sample]]:
    if not table:
        raise FedkimError("partition 'table'", found="no table", expected="a site for each private patient")
    for sample in private:
        if sample.patient not in table:
            raise FedkimError(f"sample {sample.id}", found="a patient without a site in the table", remedy="add it")
    return {name: [] for name in table.values()} | _grouped(private, lambda sample: table[sample.patient])


def _without_modalities(shards: dict[str, list[Sample]], missing: float, seed: int) -> dict[str, list[Sample]]:
    """The shards after each site has lost each modality with chance ``missing``.

    One site, drawn by the seed, keeps all: so every modality and every task keeps a teacher.
    """
    if not 0 <= missing < 1:
        raise FedkimError("missing", found=str(missing), expected="a number from 0 up to, not including, 1")
    modalities = sorted({modality for samples in shards.values() for sample in samples for modality in sample.inputs})
    names = list(shards)
    random = numpy_generator_for(seed, "partition", "missing-modality")
    keeper = names[int(random.integers(len(names)))]
    lost = random.random((len(names), len(modalities))) < missing
    thinned: dict[str, list[Sample]] = {}
    for name, row in zip(names, lost, strict=True):
        gone = set() if name == keeper else {m for m, is_lost in zip(modalities, row, strict=True) if is_lost}
        thinned[name] = [kept for sample in shards[name] if (kept := _without(sample, gone)).inputs and kept.labels]
    return thinned


def _without(sample: Sample, gone: set[str]) -> Sample:
    """The sample less these inputs, and less the labels of tasks that no input is left for."""
    if not gone & set(sample.inputs):
        return sample
    inputs = {modality: tensor for modality, tensor in sample.inputs.items() if modality not in gone}
    labels = {
        task: answer
        for task, answer in sample.labels.items()
        if task not in TASKS or set(inputs) & set(TASKS[task].modalities)
    }
    return replace(sample, inputs=inputs, labels=labels)


def _grouped(private: Dataset, site_of: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in private:
        groups[site_of(sample)].append(sample)
    return dict(groups)
