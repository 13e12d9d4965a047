"""VQA-RAD: two versions that are never mixed up, answers as text, one file for all questions about an image."""

import pytest

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import vqarad
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS
from fixtures.writers import vqarad as writer


def write(root, damage="", **options):
    return writer.write(root, damage, **({"num_patients": 10} | options))


@pytest.fixture(scope="module", params=["public", "mevf"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def root(tmp_path_factory, version):
    return write(tmp_path_factory.mktemp("vqarad"), version=version)


@pytest.fixture(scope="module")
def records(root, version):
    return vqarad.read(root, Reading(version=version, image_size=32))


def test_a_record_is_a_question_and_names_its_version(records, version):
    assert len(records) == len({record.id for record in records}) == 30
    assert {record.strata["version"] for record in records} == {version}
    assert {record.id.split("/")[1] for record in records} == {version}
    assert set(records[0].labels) == set(records[0].questions) == set(PUBLIC_SETS["vqarad"].tasks) <= set(TASKS)


def test_answers_are_text_even_where_the_file_has_numbers(records):
    counted = [record for record in records if record.questions["vqa_rad"].startswith("How many")]
    assert {record.labels["vqa_rad"] for record in counted} == {"2"}


def test_blanks_around_kinds_of_answers_and_questions_do_not_make_new_kinds(records):
    assert {record.strata["answer_type"] for record in records} == {"closed", "open"}
    assert {record.strata["template"] for record in records} == {"ABN+PRES/closed", "ORGAN/open", "COUNT/open"}


def test_questions_about_one_image_share_patient_and_input(records):
    first = [record for record in records if record.patient == "vqarad/synpic100"]
    assert len(first) == 3
    assert first[0].inputs == first[1].inputs
    (given,) = first[0].inputs
    assert given.read(given.path, **given.settings)["image"].shape == (1, 32, 32)


def test_the_published_test_of_mevf_is_a_file_whatever_its_phrase_types(records, version, root):
    if version == "mevf":
        assert not any("test" in (root / file).read_text() for file in vqarad.FILES[version])
    tests = {record.id for record in records if record.published_split == "test"}
    assert version == "public" or tests == {f"vqarad/mevf/testset-{row}" for row in range(1, 5)}


def test_the_published_test_is_kept_as_published(records):
    test = [record for record in records if record.published_split == "test"]
    assert len(test) == 4
    assert {record.published_split for record in records} == {"train", "test"}


def test_a_check_tells_counts_and_shared_images_and_passes(root, version):
    findings = vqarad.check(root)
    assert findings.errors == []
    counts = {(f.file, f.field): f.expected.split()[0] for f in findings if f.code == "W-COUNT"}
    if version == "public":
        assert counts["VQA_RAD Dataset Public.json", "questions"] == "2,248"
        assert counts["VQA_RAD Image Folder", "images"] == "315"
        assert counts["VQA_RAD Dataset Public.json", "test questions"] == "451"
    else:
        assert counts["trainset.json", "questions"] == "3,064"
        assert counts["testset.json", "questions"] == "451"
    shared = next(finding for finding in findings if finding.code == "W-IMAGE-IN-TWO-SPLITS")
    assert shared.found.startswith("4 also in ")


def test_the_other_version_is_named_and_not_read(root, version):
    other = "mevf" if version == "public" else "public"
    with pytest.raises(FedkimError, match=f'versions = {{ vqarad = "{version}" }}'):
        vqarad.read(root, Reading(version=other))
    with pytest.raises(FedkimError, match="unknown version of vqarad 'v2'"):
        vqarad.read(root, Reading(version="v2"))


def test_the_public_version_is_the_first(tmp_path):
    assert vqarad.read(write(tmp_path), Reading())[0].strata["version"] == "public"
    assert PUBLIC_SETS["vqarad"].versions[0] == "public"


def test_an_empty_folder_is_told_what_was_expected(tmp_path):
    (finding,) = vqarad.check(tmp_path).errors
    assert "trainset.json" in finding.expected
    with pytest.raises(FedkimError, match="neither version of vqarad"):
        vqarad.read(tmp_path, Reading())


def test_parquet_files_are_told_to_be_no_copy_that_can_be_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001-eb8844602202be60.parquet").touch()
    (finding,) = vqarad.check(tmp_path).errors
    assert "Hugging Face" in finding.found
    assert "VQA_RAD Dataset Public.json" in finding.expected


def test_a_question_that_stands_there_twice_is_asked_once_and_by_the_published_code_as_often(tmp_path, version):
    root = write(tmp_path, damage="twice", version=version)
    assert len(vqarad.read(root, Reading(version=version))) == 30
    assert len(vqarad.read(root, Reading(version=version, labels="paper"))) == 31
    (finding,) = [finding for finding in vqarad.check(root) if finding.code == "I-QUESTION-TWICE"]
    assert finding.found.startswith("1 question")
    assert finding.row == (31 if version == "public" else 27)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("no key", "E-COLUMN"),
        ("missing picture", "E-FILE-MISSING"),
        ("no json", "E-TABLE"),
        ("foreign path", "E-VALUE"),
    ],
)
def test_each_damage_is_found(tmp_path, damage, code):
    root = write(tmp_path, damage=damage)
    assert code in [finding.code for finding in vqarad.check(root).errors]
    with pytest.raises(FedkimError) as caught:
        vqarad.read(root, Reading())
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


def test_a_question_without_an_answer_is_left_out_and_counted(tmp_path):
    root = write(tmp_path, damage="no answer")
    assert len(vqarad.read(root, Reading())) == 29
    findings = vqarad.check(root)
    assert findings.errors == []
    assert [finding.row for finding in findings if finding.code == "W-UNANSWERED"] == [3]
