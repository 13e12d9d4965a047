"""SLAKE: English unless asked otherwise, published parts kept, one file for all questions about an image."""

import pytest

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import slake
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS
from fixtures.writers import slake as writer


def write(root, damage="", **options):
    return writer.write(root, damage, **({"num_patients": 10} | options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("slake"))


def languages(records):
    return sorted({record.strata["language"] for record in records})


def test_english_questions_are_read_unless_another_language_is_named(root):
    assert languages(slake.read(root, Reading())) == ["en"]
    assert languages(slake.read(root, Reading(language="zh"))) == ["zh"]
    assert languages(slake.read(root, Reading(language="all"))) == ["en", "zh"]
    with pytest.raises(FedkimError, match="unknown language of slake 'fr'"):
        slake.read(root, Reading(language="fr"))


def test_the_published_code_asked_in_all_languages(root):
    assert languages(slake.read(root, Reading(labels="paper"))) == ["en", "zh"]


def test_a_record_is_a_question_with_its_published_part(root):
    records = slake.read(root, Reading(image_size=32))
    assert len(records) == len({record.id for record in records}) == 20
    assert [sum(record.published_split == part for record in records) for part in slake.PARTS] == [12, 4, 4]
    assert set(records[0].labels) == set(records[0].questions) == set(PUBLIC_SETS["slake"].tasks) <= set(TASKS)
    assert {record.strata["template"] for record in records} == {"modality/open", "abnormality/closed"}


def test_questions_about_one_image_share_patient_and_input(root):
    first = [record for record in slake.read(root, Reading(image_size=32)) if record.patient == "slake/xmlab0"]
    assert len(first) == 2
    assert first[0].inputs == first[1].inputs
    (given,) = first[0].inputs
    assert given.read(given.path, **given.settings)["image"].shape == (1, 32, 32)


def test_a_check_tells_counts_and_passes(root):
    findings = slake.check(root)
    assert findings.errors == []
    told = {(f.file, f.field): (f.found, f.expected.split()[0]) for f in findings if f.code == "W-COUNT"}
    assert told["train.json", "English questions"] == ("12", "4,919")
    assert told["test.json", "questions in all languages"] == ("6", "2,094")
    assert told["imgs", "images with a question"] == ("10", "642")
    assert told["", "questions in all parts and languages"] == ("30", "14,028")


@pytest.mark.parametrize(
    ("damage", "code", "readable"),
    [
        ("no key", "E-COLUMN", False),
        ("missing picture", "E-FILE-MISSING", False),
        ("no json", "E-TABLE", False),
        ("foreign path", "E-VALUE", False),
        ("unknown language", "E-VALUE", True),
        ("shared image", "W-IMAGE-IN-TWO-SPLITS", True),
    ],
)
def test_each_damage_is_found(tmp_path, damage, code, readable):
    root = write(tmp_path, damage=damage)
    assert code in [finding.code for finding in slake.check(root)]
    if not readable:
        with pytest.raises(FedkimError) as caught:
            slake.read(root, Reading())
        assert caught.value.code == code
        assert "secret" not in str(caught.value)


def test_the_second_part_may_be_called_validation(root, tmp_path):
    renamed = write(tmp_path)
    (renamed / "validate.json").rename(renamed / "validation.json")
    assert [r.id for r in slake.read(renamed, Reading())] == [r.id for r in slake.read(root, Reading())]
    assert slake.check(renamed).errors == []
