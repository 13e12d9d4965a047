from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkim.data.sample import Sample
from fedkim.data.splits import assign_splits, check_disjoint
from fedkim.errors import FedkimError

UNSEEN = ("atelectasis", "sepsis")


def cohort(number, tasks=("covid", "atelectasis"), prefix="a"):
    return {f"{prefix}-{index}": set(tasks) for index in range(number)}


def test_patients_of_seen_tasks_fall_seven_one_one_one():
    shares = Counter(assign_splits(cohort(1000), seed=0, unseen_tasks=UNSEEN).values())
    assert shares == {"private": 700, "public": 100, "development": 100, "test": 100}


def test_patients_of_unseen_tasks_alone_serve_the_evaluation_one_to_four():
    shares = Counter(assign_splits(cohort(500, UNSEEN), seed=0, unseen_tasks=UNSEEN).values())
    assert shares == {"development": 100, "test": 400}


def test_every_stratum_has_the_shares_of_the_whole():
    patients = cohort(2000)
    strata = {patient: "Yes" if index % 11 == 0 else "No" for index, patient in enumerate(patients)}
    splits = assign_splits(patients, seed=3, unseen_tasks=UNSEEN, strata=strata)
    for answer in ("Yes", "No"):
        shares = Counter(splits[patient] for patient in patients if strata[patient] == answer)
        total = shares.total()
        assert abs(shares["private"] - 0.7 * total) <= 2
        assert all(abs(shares[name] - 0.1 * total) <= 1 for name in ("public", "development", "test"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), number=st.integers(1, 60), order=st.randoms(use_true_random=False))
def test_the_split_depends_on_the_patients_and_the_seed_and_not_on_their_order(seed, number, order):
    patients = cohort(number) | cohort(number, ("sepsis",), "b")
    shuffled = list(patients.items())
    order.shuffle(shuffled)
    once = assign_splits(patients, seed=seed, unseen_tasks=UNSEEN)
    assert assign_splits(dict(shuffled), seed=seed, unseen_tasks=UNSEEN) == once
    assert set(once) == set(patients)


def test_another_seed_deals_otherwise():
    first, second = (assign_splits(cohort(200), seed=seed) for seed in (0, 1))
    assert sum(first[patient] != second[patient] for patient in first) > 40


def test_a_patient_without_a_label_is_refused():
    with pytest.raises(FedkimError, match="1 patients without a label"):
        assign_splits({"a": set()}, seed=0)


def sample(name, patient, split):
    return Sample(id=name, patient=patient, split=split, inputs={"image": torch.zeros(1)}, labels={})


def test_one_patient_in_two_splits_is_refused_without_telling_the_patient():
    samples = [sample("x", "Jane Doe", "private"), sample("y", "Jane Doe", "test")]
    with pytest.raises(FedkimError, match="samples x and y, found private and test") as caught:
        check_disjoint(samples)
    assert "Jane" not in str(caught.value)


def test_two_samples_of_a_patient_in_one_split_are_fine_and_an_unknown_split_is_not():
    check_disjoint([sample("x", "p", "test"), sample("y", "p", "test")])
    with pytest.raises(FedkimError, match="'train'"):
        check_disjoint([sample("x", "p", "train")])
