"""Flower Datasets' partitioners, over patients: ways to be uneven that the literature has names for.

A partitioner sees a table of two columns, patient and class (all closed answers of a patient together), never an input. It
deals rows to sites; all samples of a patient follow.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedkim.errors import FedkimError, install_extra
from fedkim.randomness import numpy_generator_for, seed_for

KINDS = ("inner-dirichlet", "pathological", "shard", "linear", "square", "exponential")


def deal(
    classes: Mapping[str, Sequence[str]],
    names: Sequence[str],
    *,
    kind: str,
    seed: int,
    alpha: float,
    classes_per_site: int,
    shards_per_site: int,
) -> dict[str, str]:
    """The site of each patient.

    Args:
        classes: patients by class.
        names: the sites.
        kind: ``inner-dirichlet`` (sites of equal size, each with class shares of its own from Dirichlet(alpha); Acar et
            al. 2021) · ``pathological`` (each site holds ``classes_per_site`` classes) · ``shard`` (patients sorted by class,
            cut into shards, ``shards_per_site`` to each; McMahan et al. 2017) · ``linear``, ``square``, ``exponential`` (sites
            whose sizes grow so, alike otherwise).
        seed: the run's.
        alpha: of ``inner-dirichlet``.
        classes_per_site: of ``pathological``.
        shards_per_site: of ``shard``.

    Raises:
        FedkimError: no flwr-datasets, or more asked for than there are patients or classes.
    """
    try:
        import datasets
        from flwr_datasets import partitioner
    except ImportError:
        raise FedkimError(f"partition {kind!r} needs flwr-datasets", remedy=install_extra("partitions")) from None
    datasets.disable_progress_bars()
    number = len(names)
    drawn = numpy_generator_for(seed, "partition", kind)
    codes = dict(
        zip(sorted(classes), drawn.permutation(len(classes)).tolist())
    )  # which site gets which class is chance
    rows = [(patient, codes[label]) for label in sorted(classes) for patient in classes[label]]
    order = drawn.permutation(len(rows)).tolist()
    table = datasets.Dataset.from_dict(
        {"patient": [rows[index][0] for index in order], "class": [rows[index][1] for index in order]}
    )
    if kind == "pathological" and number + classes_per_site - 1 < len(classes):  # neighbours share all classes but one
        raise FedkimError(
            "partition 'pathological'",
            found=f"{len(classes)} classes for {number} sites of {classes_per_site}",
            expected="a site for every class",
            remedy=f"classes_per_site = {len(classes) - number + 1} or more sites",
        )
    sizes = [len(rows) // number + (place < len(rows) % number) for place in range(number)]
    by_class: dict[str, Any] = {"partition_by": "class", "seed": seed_for(seed, "partition", kind) % 2**32}
    makers: dict[str, Callable[[], Any]] = {
        "inner-dirichlet": lambda: partitioner.InnerDirichletPartitioner(
            partition_sizes=sizes, alpha=alpha, **by_class
        ),
        "pathological": lambda: partitioner.PathologicalPartitioner(
            num_partitions=number,
            num_classes_per_partition=min(classes_per_site, len(classes)),
            class_assignment_mode="deterministic",
            **by_class,
        ),
        "shard": lambda: partitioner.ShardPartitioner(
            num_partitions=number,
            shard_size=-(-len(rows) // (number * shards_per_site)),
            keep_incomplete_shard=True,
            **by_class,
        ),
        "linear": lambda: partitioner.LinearPartitioner(num_partitions=number),
        "square": lambda: partitioner.SquarePartitioner(num_partitions=number),
        "exponential": lambda: partitioner.ExponentialPartitioner(num_partitions=number),
    }
    chosen = makers[kind]()
    chosen.dataset = table
    owner: dict[str, str] = {}
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is checked here and told as an error
            for place, name in enumerate(names):
                owner.update(dict.fromkeys(chosen.load_partition(place)["patient"], name))
    except (ValueError, IndexError, ZeroDivisionError) as error:
        found = f"{len(rows)} patients of {len(classes)} classes for {number} sites ({type(error).__name__})"
        raise FedkimError(
            f"partition {kind!r}", found=found, remedy="fewer sites, a larger alpha or another kind"
        ) from None
    if len(owner) != len(rows):
        found = f"{len(rows) - len(owner)} of {len(rows)} patients without a site"
        raise FedkimError(f"partition {kind!r}", found=found, remedy="another number of sites or another kind")
    return owner
