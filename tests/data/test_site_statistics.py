"""Federated statistics: no small cell shows or can be computed, and what differs between sites is found."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkim.data.sample import Dataset, Sample
from fedkim.data.shifts import shifted
from fedkim.data.statistics import NONE, bins, compare, describe, describe_sites, disclose, prevalence

K = 10


def possible(cells):
    """For each hidden cell the values that a reader can't rule out: all that the total and the others leave."""
    hidden = [name for name, count in cells.counts.items() if count is None]
    if not hidden:
        return {}
    together = cells.total - sum(count for count in cells.counts.values() if count is not None)
    values = {name: set() for name in hidden}
    for first in product(range(1, together + 1), repeat=len(hidden) - 1):
        last = together - sum(first)
        if last >= 1:
            for name, value in zip(hidden, (*first, last)):
                values[name].add(value)
    return values


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4))
def test_a_hidden_cell_could_be_any_of_ten_numbers_and_shown_cells_are_as_they_are(numbers):
    counts = {f"c{place}": number for place, number in enumerate(numbers)}
    cells = disclose(counts, K)
    assert set(cells.counts) == set(counts)
    for name, count in cells.counts.items():
        assert count in (None, counts[name])
        assert count is None or count == 0 or count >= K
    if cells.total is None:
        assert not any(cells.counts.values())  # all hidden, or all zero beside a total below k
        return
    assert cells.total == sum(numbers)
    assert all(len(values) >= K for values in possible(cells).values())


def test_the_smallest_neighbour_is_hidden_with_a_small_cell():
    assert disclose({"Yes": 4, "No": 50, NONE: 20}).counts == {"Yes": None, "No": 50, NONE: None}
    assert disclose({"Yes": 5, "No": 6, NONE: 80}).counts == {"Yes": None, "No": None, NONE: 80}
    assert disclose({"Yes": 1, "No": 1, NONE: 80}).counts == {"Yes": None, "No": None, NONE: None}
    assert disclose({"Yes": 10, "No": 12, NONE: 0}).counts == {"Yes": 10, "No": 12, NONE: 0}
    everything = disclose({"Yes": 3, "No": 4, NONE: 0})
    assert everything.total is None
    assert set(everything.counts.values()) == {None}


def shard(number, positive, *, seed=0, scale=1.0, labelled=1.0, two=False):
    random = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(number):
        answer = "Yes" if index < positive * number else "No"
        labels = {"covid": answer} if index >= (1 - labelled) * number or labelled == 1 else {}
        for copy in range(2 if two else 1):
            image = torch.randn(1, 16, 16, generator=random).cumsum(2) * scale / 3
            samples.append(
                Sample(
                    id=f"{index}-{copy}",
                    patient=f"{seed}-{index}",
                    split="private",
                    inputs={"image": image},
                    labels=labels,
                )
            )
    return Dataset(samples)


def test_patients_are_counted_and_not_samples():
    once, twice = (describe(shard(40, 0.5, two=two), tasks=["covid"], modalities=["image"]) for two in (False, True))
    assert once.tasks == twice.tasks
    assert twice.patients == 40
    assert twice.tasks["covid"].counts == {NONE: 0, "Yes": 20, "No": 20}
    assert twice.modalities["image"].counts == {"with": 40, "without": 0}
    assert twice.features["image sharpness"].histogram.total == 40


def test_who_lacks_a_label_or_an_input_counts_as_missing():
    statistics = describe_sites({"a": shard(60, 0.5, labelled=0.5), "b": Dataset([])})
    assert statistics["a"].tasks["covid"].counts[NONE] == 30
    assert statistics["b"].patients is None
    assert statistics["b"].modalities["image"].counts == {"with": 0, "without": 0}


def test_a_site_of_a_few_patients_tells_nothing():
    few = describe(shard(9, 0.5), tasks=["covid"], modalities=["image"])
    assert few.patients is None
    assert set(few.tasks["covid"].counts.values()) <= {None, 0}
    assert few.features["image median"].mean is None
    assert "9" not in str(few.to_dict()["tasks"])


def test_a_site_by_which_the_total_would_tell_a_small_one_tells_nothing_either():
    told = describe_sites({"a": shard(67, 0.5), "b": shard(60, 0.5), "c": shard(8, 0.5)})
    assert {site: statistics.patients for site, statistics in told.items()} == {"a": 67, "b": None, "c": None}
    for statistics in (told["b"], told["c"]):
        for cells in (*statistics.tasks.values(), *statistics.modalities.values()):
            assert cells.total is None
            assert set(cells.counts.values()) <= {None, 0}
        assert all(feature.mean is None for feature in statistics.features.values())


def test_prevalence_and_its_range_are_those_of_the_sites():
    sites = describe_sites({"a": shard(100, 0.2), "b": shard(100, 0.6, seed=1), "c": shard(20, 0.1, seed=2)})
    assert prevalence(sites["a"].tasks["covid"]) == 0.2
    compared = compare(sites)["tasks"]["covid"]
    assert compared["prevalence"] == {"a": 0.2, "b": 0.6, "c": None}  # two patients of c
    assert compared["range"] == pytest.approx(0.4)


def test_a_shifted_scanner_shows_and_its_absence_does_not():
    alike = {"a": shard(200, 0.5), "b": shard(200, 0.5, seed=1)}
    other = {**alike, "b": shifted(alike["b"], ["scanner-noise"], site="b", seed=0)}
    before, after = (compare(describe_sites(sites))["features"]["image sharpness"] for sites in (alike, other))
    assert before["largest_mean_difference"] < 0.3
    assert after["largest_mean_difference"] > 3 * before["largest_mean_difference"]
    assert after["largest_total_variation"] > before["largest_total_variation"]


def test_bins_cover_every_number_once():
    names = bins((-1.0, 0.0, 2.0))
    assert names == ["below -1", "-1 to 0", "0 to 2", "2 or more"]
