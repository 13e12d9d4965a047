from collections import Counter
from dataclasses import replace

import pytest
import torch

from fedkim.data.partition import partition
from fedkim.data.sample import Dataset, Sample
from fedkim.data.site_names import SITE_NAME, site_names
from fedkim.errors import FedkimError

ICU = ("vitals", "labs", "inputs", "outputs")


def cohort(number=300):
    """Image patients (one in three has two images), ECG patients and ICU patients; a few public ones."""
    samples = []
    for index in range(number):
        kind = index % 3
        inputs = {name: torch.full((2,), float(index)) for name in (("image",), ("signal",), ICU)[kind]}
        task = ("covid", "ecg_abnormal", "mortality")[kind]
        answer = "Yes" if index % 4 == 0 else "No"
        for copy in range(2 if index % 9 == 0 else 1):
            samples.append(
                Sample(
                    id=f"{index}-{copy}",
                    patient=f"p{index}",
                    site=f"hospital-{index % 4 + 1}",
                    split="public" if index % 10 == 9 else "private",
                    inputs=inputs,
                    labels={task: answer},
                )
            )
    return Dataset(samples, name="cohort", synthetic=True)


PRIVATE = cohort().split("private")
WAYS = [
    {"kind": "iid"},
    {"kind": "dirichlet", "alpha": 0.3},
    {"kind": "natural"},
    {"kind": "table", "table": {sample.patient: f"site-{int(sample.patient[1:]) % 2 + 1}" for sample in PRIVATE}},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["kind"])
def test_every_private_sample_is_held_once_and_patients_stay_whole(way):
    shards = partition(cohort(), seed=1, **way)
    held = [sample.id for shard in shards.values() for sample in shard]
    assert sorted(held) == sorted(sample.id for sample in PRIVATE)
    owners = Counter()
    for shard in shards.values():
        owners.update({sample.patient for sample in shard})
        assert shard.synthetic
        assert shard.name == "cohort"
    assert set(owners.values()) == {1}


def test_whatever_the_data_call_their_sites_gets_a_name_of_its_own_that_a_site_may_have():
    assert site_names({"ward-1", "ICU.2"}) == {"ward-1": "ward-1", "ICU.2": "ICU.2"}
    assert site_names({"0", "12", "CS-12   E", "Süd 0"}) == {
        "0": "site-0",
        "12": "site-12",
        "CS-12   E": "CS-12-E",
        "Süd 0": "Sud-0",
    }
    as_they_are = {"a--b", "ward-", "site", "A-B", "A B"}  # a run that has begun keeps its sites' names
    assert site_names(as_they_are) == {**{word: word for word in as_they_are - {"A B"}}, "A B": "A-B-1"}
    awkward = {"A B", "A-B", "A-B-1", "内科", "外科", "x" * 80, "x" * 81, "site", "-", "3", "site-3"}
    named = site_names(awkward)
    assert len(set(named.values())) == len(awkward) == len(named)
    assert all(SITE_NAME.fullmatch(name) for name in named.values()), named
    assert named == site_names(sorted(awkward, reverse=True))


def test_sites_are_numbered_in_order_and_natural_sites_keep_their_names():
    assert list(partition(cohort(), num_sites=12)) == [f"site-{number}" for number in range(1, 13)]
    assert list(partition(cohort(), kind="natural")) == [f"hospital-{number}" for number in range(1, 5)]


def test_iid_sites_have_equal_shares_of_every_label():
    shards = partition(cohort(900), kind="iid", num_sites=5)
    for task, answer in (("covid", "Yes"), ("mortality", "No"), ("ecg_abnormal", "Yes")):
        counts = [len({s.patient for s in shard if s.labels.get(task) == answer}) for shard in shards.values()]
        assert max(counts) - min(counts) <= 1


def test_a_smaller_alpha_makes_sites_differ_more():
    def unevenness(alpha):
        shards = partition(cohort(3000), kind="dirichlet", alpha=alpha, seed=4)
        counts = [sum(s.labels.get("covid") == "Yes" for s in shard) for shard in shards.values()]
        return max(counts) - min(counts)

    assert unevenness(0.2) > 3 * unevenness(100.0)


def test_the_same_seed_deals_the_same_and_another_seed_otherwise():
    def dealt(seed):
        return {name: [s.id for s in shard] for name, shard in partition(cohort(), kind="dirichlet", seed=seed).items()}

    assert dealt(5) == dealt(5)
    assert dealt(5) != dealt(6)


def test_sites_lose_whole_modalities_but_one_site_keeps_them_all():
    shards = partition(cohort(), kind="missing-modality", missing=0.4, num_sites=4, seed=2)
    have = {name: {m for sample in shard for m in sample.inputs} for name, shard in shards.items()}
    assert any(modalities == {"image", "signal", *ICU} for modalities in have.values())
    assert any(modalities != {"image", "signal", *ICU} for modalities in have.values())
    for shard in shards.values():
        for sample in shard:
            assert sample.labels
            assert "mortality" not in sample.labels or set(ICU) & set(sample.inputs)


def test_nothing_missing_is_iid():
    thinned, iid = (partition(cohort(), kind=kind, missing=0.0, seed=3) for kind in ("missing-modality", "iid"))
    assert {n: [s.id for s in d] for n, d in thinned.items()} == {n: [s.id for s in d] for n, d in iid.items()}


def test_a_site_without_a_usable_row_is_named():
    with pytest.raises(FedkimError, match="site 'site-4'"):
        partition(Dataset(PRIVATE.samples[:4]), num_sites=5)


def test_mistakes_are_told_by_name():
    with pytest.raises(FedkimError, match="did you mean 'dirichlet'"):
        partition(cohort(), kind="dirichlett")
    with pytest.raises(FedkimError, match="without a site in the table"):
        partition(cohort(), kind="table", table={"p0": "site-1"})
    with pytest.raises(FedkimError, match="alpha"):
        partition(cohort(), kind="dirichlet", alpha=0.0)
    with pytest.raises(FedkimError, match="no private samples"):
        partition(cohort().split("public"))


def test_a_patient_at_two_natural_sites_is_wholly_at_the_first():
    one = PRIVATE.samples[0]
    samples = [
        replace(one, id=f"x{n}", patient="x", site=site) for n, site in enumerate(("ward-b", "ward-a", "ward-b"))
    ]
    samples.append(replace(one, id="y", patient="y", site="ward-a"))
    shards = partition(Dataset(samples, name="two"), kind="natural")
    assert {name: [sample.id for sample in shard] for name, shard in shards.items()} == {
        "ward-a": ["y"],
        "ward-b": ["x0", "x1", "x2"],
    }
