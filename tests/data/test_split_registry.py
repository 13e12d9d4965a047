"""The registry: the same split for everyone from rule and seed, a hospital's own under its key, both without a list of patients."""

import errno
import json
import os
import stat
from collections import Counter

import pytest

from fedkim.data.leaks import Twins
from fedkim.data.record import Record
from fedkim.data.split_registry import keyed, register, site_secret
from fedkim.errors import FedkimError

UNSEEN = ("atelectasis", "sepsis")


def record(index, *tasks, name="a", answer="No"):
    return Record(
        id=f"{name}/{index}", patient=f"{name}/{index}", inputs=(), labels=dict.fromkeys(tasks or ("covid",), answer)
    )


COHORT = [record(index, answer="Yes" if index % 10 == 0 else "No") for index in range(1000)]
COHORT += [record(index, "atelectasis", name="b") for index in range(200)]


def test_public_patients_are_dealt_in_exact_shares_balanced_by_answer():
    registry = register(COHORT, seed=0, unseen_tasks=UNSEEN)
    shares = Counter(registry.splits[f"a/{index}"] for index in range(1000))
    assert shares == {"private": 700, "public": 100, "development": 100, "test": 100}
    positive = Counter(registry.splits[f"a/{index}"] for index in range(0, 1000, 10))
    assert positive == {"private": 70, "public": 10, "development": 10, "test": 10}
    assert registry.patients["atelectasis"] == {"private": 0, "public": 0, "development": 40, "test": 160}


def test_what_is_published_gives_the_same_split_and_names_nobody():
    registry = register(COHORT, seed=7, unseen_tasks=UNSEEN)
    published = json.loads(json.dumps(registry.published()))
    again = register(reversed_(COHORT), seed=published["seed"], unseen_tasks=UNSEEN)
    assert again.published() == registry.published()
    assert again.splits == registry.splits
    assert register(COHORT, seed=8, unseen_tasks=UNSEEN).splits != registry.splits
    assert "a/1" not in json.dumps(published)
    assert sum(published["patients"].values()) == 1200


def reversed_(records):
    return list(reversed(records))


def test_patients_who_share_a_content_are_one():
    same = [
        Twins(first=0, second=1, modality="image", exact=True),
        Twins(first=1, second=2, modality="image", exact=False),
    ]
    registry = register(COHORT, seed=0, unseen_tasks=UNSEEN, same=same)
    assert registry.merged == 2
    assert len({registry.splits[f"a/{index}"] for index in range(3)}) == 1
    assert set(registry.splits) == {record.patient for record in COHORT}


def test_a_shared_content_takes_a_patient_with_seen_labels_into_account():
    """An unseen-only patient who turns out to be a trained one must not be tested on."""
    mixed = [*COHORT[:50], record(0, "atelectasis", name="b")]
    for first in range(50):
        same = [Twins(first=first, second=50, modality="image", exact=True)]
        splits = register(mixed, seed=0, unseen_tasks=UNSEEN, same=same).splits
        assert splits["b/0"] == splits[f"a/{first}"]


def test_a_hospitals_split_stays_when_patients_are_added_and_needs_its_key(tmp_path):
    secret = site_secret(tmp_path / "key")
    few = register(COHORT[:300], seed=0, secret=secret).splits
    many = register(COHORT, seed=5, unseen_tasks=UNSEEN, secret=secret).splits
    assert all(many[patient] == split for patient, split in few.items())
    other = register(COHORT[:300], seed=0, secret=site_secret(tmp_path / "other")).splits
    assert sum(other[patient] != few[patient] for patient in few) > 100
    shares = Counter(many[f"a/{index}"] for index in range(1000))
    assert shares["private"] == pytest.approx(700, abs=60)
    assert shares["test"] == pytest.approx(100, abs=40)
    assert {many[f"b/{index}"] for index in range(200)} == {"development", "test"}


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "key"
    first = site_secret(path)
    assert len(first) == 32
    assert site_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]
    assert keyed(first, "split", "p") != keyed(first, "other purpose", "p")


def test_a_key_that_cannot_be_written_leaves_nothing_of_itself(tmp_path, monkeypatch):
    def refused(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr("fedkim.data.split_registry.os.link", refused)
    with pytest.raises(FedkimError, match="can't be made"):
        site_secret(tmp_path / "site.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["readable", "cut", "link", "nowhere"])
def test_a_key_that_is_not_safe_or_not_whole_is_refused(how, tmp_path):
    path = tmp_path / ("nowhere/key" if how == "nowhere" else "key")
    if how != "nowhere":
        site_secret(path)
    if how == "readable":
        path.chmod(0o644)
    elif how == "cut":
        path.write_text("abc")
    elif how == "link":
        os.rename(path, tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    with pytest.raises(FedkimError, match="key of the pseudonyms"):
        site_secret(path)


def test_a_record_without_a_label_is_refused():
    with pytest.raises(FedkimError, match="without a label"):
        register([Record(id="a/x", patient="a/x", inputs=(), labels={})], seed=0)
