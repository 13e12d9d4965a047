"""Flower Datasets' partitions: every private patient is held once and whole, the shapes are those of their names."""

from collections import Counter

import pytest
from test_partition import PRIVATE, cohort

from fedkim.data.partition import _classes, partition
from fedkim.data.partitioners import KINDS
from fedkim.errors import FedkimError
from fedkim.recipe import Federation, Recipe

pytest.importorskip("flwr_datasets", reason="SKIPPED, NOT RUN: needs flwr-datasets (pip install 'fedkim[partitions]')")


def sizes(shards):
    return [len({sample.patient for sample in shard}) for shard in shards.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_private_sample_is_held_once_and_patients_stay_whole(kind):
    shards = partition(cohort(), kind=kind, seed=1, num_sites=4, classes_per_site=3)
    assert list(shards) == ["site-1", "site-2", "site-3", "site-4"]
    held = [sample.id for shard in shards.values() for sample in shard]
    assert sorted(held) == sorted(sample.id for sample in PRIVATE)
    assert sum(sizes(shards)) == len({sample.patient for sample in PRIVATE})


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_deals_the_same_and_another_otherwise(kind):
    def dealt(seed):
        shards = partition(cohort(), kind=kind, seed=seed, num_sites=4, classes_per_site=3)
        return {name: sorted(sample.id for sample in shard) for name, shard in shards.items()}

    assert dealt(5) == dealt(5)
    assert dealt(5) != dealt(6)


def test_sizes_grow_as_the_names_say():
    number = len({sample.patient for sample in PRIVATE})
    assert sizes(partition(cohort(), kind="linear", num_sites=3)) == pytest.approx(
        [number * share / 6 for share in (1, 2, 3)], abs=2
    )
    assert sizes(partition(cohort(), kind="square", num_sites=3)) == pytest.approx(
        [number * share / 14 for share in (1, 4, 9)], abs=2
    )
    small, middle, large = sizes(partition(cohort(), kind="exponential", num_sites=3))
    assert large / middle == pytest.approx(2.718, rel=0.1)
    assert middle / small == pytest.approx(2.718, rel=0.1)


def test_a_pathological_site_holds_so_many_classes_and_inner_dirichlet_sites_are_of_one_size():
    shards = partition(cohort(), kind="pathological", num_sites=5, classes_per_site=2)
    assert {len(_classes(shard)) for shard in shards.values()} == {2}
    shards = partition(cohort(), kind="inner-dirichlet", num_sites=4, alpha=0.2)
    assert max(sizes(shards)) - min(sizes(shards)) <= 1
    shares = Counter(len(_classes(shard)) for shard in shards.values())
    assert min(shares) < 6  # at 0.2 some site lacks a class


def test_classes_without_a_site_are_refused_with_the_number_that_would_do():
    with pytest.raises(FedkimError, match="classes_per_site = 5"):
        partition(cohort(), kind="pathological", num_sites=2, classes_per_site=1)
    with pytest.raises(FedkimError, match="alpha"):
        partition(cohort(), kind="inner-dirichlet", alpha=0.0)


def test_a_recipe_takes_every_kind():
    for kind in KINDS:
        assert Recipe(federation=Federation(partition=kind)).federation.partition == kind
