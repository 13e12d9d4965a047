"""ECG-QA from its published layout: which questions are asked, whose patients they are, what a damaged copy is told."""

import json
import shutil

import pytest

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import ecgqa, ecgqa_questions, pack_questions, ptbxl
from fedkim.errors import FedkimError
from fedkim.evaluation.text import exact_match
from fedkim.tasks import TASKS
from fixtures.writers import ecgqa as writer
from fixtures.writers import ptbxl as recordings


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return writer.write(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def records(root):
    return ecgqa.read(root, Reading())


def test_questions_about_noise_in_one_recording_are_asked_and_no_others(records):
    assert len(records) == len({record.id for record in records}) == 3 * 54
    assert {record.published_split for record in records} == {"train", "valid", "test"}
    assert all(set(record.labels) == set(record.questions) == {"ecg_qa"} for record in records)
    assert not any("normal" in record.questions["ecg_qa"] for record in records)  # attribute_type scp_code
    assert not any("still there" in record.questions["ecg_qa"] for record in records)  # about two recordings
    assert TASKS["ecg_qa"].answers is None
    assert PUBLIC_SETS["ecgqa"].tasks == ("ecg_qa",)


def test_a_comparison_is_not_asked_by_rule():
    entry = {"attribute_type": "noise", "ecg_id": [1]}
    assert ecgqa.is_asked(entry)
    assert not ecgqa.is_asked(entry | {"ecg_id": [1, 2]})
    assert not ecgqa.is_asked(entry | {"attribute_type": "scp_code"})


def test_lists_are_answers_as_sets_and_not_sure_is_an_answer(records):
    by_id = {record.id: record.labels["ecg_qa"] for record in records}
    answer = by_id["ecgqa/template/train/62"]
    assert set(answer.split(", ")) == {"burst noise", "electrodes problems"}
    assert exact_match("electrodes problems and burst noise", answer) == 1
    assert exact_match("burst noise", answer) == 0
    assert by_id["ecgqa/template/train/40"] == "not sure"
    assert "none" in by_id.values()


def test_patients_and_inputs_are_those_of_ptbxl(records, root):
    home = {record.id: record for record in ptbxl.read(root / "ptbxl", Reading())}
    for record in records:
        number = int(record.id.rsplit("/", 1)[1]) // 10
        of = home[f"ptbxl/{number}"]
        assert (record.patient, record.site, record.inputs) == (of.patient, of.site, of.inputs)
    assert len({id(record.inputs[0]) for record in records}) == 54  # an ECG's questions share its input


def test_the_version_is_chosen_and_stands_in_every_record(records, root):
    paraphrased = ecgqa.read(root, Reading(version="paraphrased"))
    assert {record.strata["version"] for record in paraphrased} == {"paraphrased"}
    assert {record.strata["version"] for record in records} == {"template"}
    assert paraphrased[0].questions != records[0].questions
    assert not {record.id for record in paraphrased} & {record.id for record in records}
    with pytest.raises(FedkimError, match="did you mean 'paraphrased'"):
        ecgqa.read(root, Reading(version="paraphrase"))


def test_ptbxl_is_found_by_name_inside_or_beside(root, tmp_path, records):
    questions = tmp_path / "here" / "ecg-qa"
    shutil.copytree(root / "ecgqa", questions / "ecgqa")
    with pytest.raises(FedkimError, match=r"\[data\] roots as ptbxl"):
        ecgqa.read(questions, Reading())
    named = ecgqa.read(questions, Reading(roots={"ptbxl": str(root / "ptbxl")}))
    assert [record.inputs for record in named] == [record.inputs for record in records]
    (tmp_path / "here" / "ptbxl").symlink_to(root / "ptbxl")
    assert len(ecgqa.read(questions, Reading())) == len(records)
    (questions / "ptbxl").symlink_to(root / "ptbxl")
    assert len(ecgqa.read(questions / "ecgqa", Reading(roots={"ptbxl": str(root / "ptbxl")}))) == len(records)
    assert len(ecgqa.read(questions, Reading())) == len(records)


def test_a_whole_small_copy_is_told_its_counts_and_the_leak_between_published_splits(root):
    findings = list(ecgqa.check(root))
    assert {finding.code for finding in findings} == {"W-COUNT", "I-PART"}
    expected = {f.expected.split()[0] for f in findings if f.code == "W-COUNT" and f.field == "questions"}
    assert expected == {"267,539", "64,663", "82,146"}
    assert {f.expected.split()[0] for f in findings if f.field == "templates"} == {"70"}
    assert {f.found for f in findings if f.field == "files of other than 10,000 questions, the last aside"} == {"1"}


def test_a_patient_in_two_published_splits_is_told(tmp_path, monkeypatch):
    # recordings 1 and 2 are one patient's
    monkeypatch.setattr(writer, "SPLITS", {"train": (1, 2), "valid": (2, 4), "test": (4, 6)})
    findings = list(ecgqa.check(writer.write(tmp_path / "set", versions=("template",))))
    shared = [finding for finding in findings if finding.code == "W-PATIENT-IN-TWO-SPLITS"]
    assert [(finding.file, finding.found) for finding in shared] == [("template/train", "1 also in template/valid")]


DAMAGE = {
    "no-ptbxl": ({"E-FILE-MISSING"}, "no PTB-XL"),
    "not-json": ({"E-TABLE"}, "unreadable"),
    "lacking-key": ({"E-VALUE"}, "no 'answer'"),
    "answer-type": ({"E-VALUE"}, "another type"),
    "unknown-recording": ({"E-CONTRADICTION"}, "PTB-XL lacks"),
    "two-splits": ({"E-CONTRADICTION", "E-CONTENT-IN-TWO-SPLITS"}, ""),
    "foreign-answer": ({"E-VALUE"}, ""),
    "foreign-list": ({"E-CONTRADICTION"}, ""),
    "no-noise": (set(), ""),
}
"""By damage: the findings' codes, and what reading says where it refuses."""


def test_every_damage_of_the_writer_is_tried():
    assert set(DAMAGE) == set(writer.DAMAGES)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_told_by_code_and_no_cell_is_repeated(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(recordings, "_write_recording", lambda root, *_: (root / "records100").mkdir(exist_ok=True))
    monkeypatch.setattr(ptbxl, "_check_files", lambda *_: None)  # tests/data/test_ptbxl.py opens recordings
    root = writer.write(tmp_path / "set", damage, versions=("template",))
    codes, refused = DAMAGE[damage]
    assert {finding.code for finding in ecgqa.check(root).errors} == codes
    assert "perhaps" not in " ".join(map(str, ecgqa.check(root)))
    if refused:
        with pytest.raises(FedkimError, match=refused):
            ecgqa.read(root, Reading())


def test_a_copy_without_any_question_about_noise_is_refused(tmp_path, root):
    copy = shutil.copytree(root / "ecgqa", tmp_path / "ecgqa")
    for path in copy.rglob("*.json"):
        entries = json.loads(path.read_text())
        path.write_text(json.dumps([entry | {"attribute_type": "scp_code"} for entry in entries]))
    with pytest.raises(FedkimError, match="no question about noise"):
        ecgqa.read(tmp_path, Reading(roots={"ptbxl": str(root / "ptbxl")}))


def test_another_layout_is_refused(tmp_path):
    assert {finding.code for finding in ecgqa.check(tmp_path).errors} == {"E-FILE-MISSING"}
    with pytest.raises(FedkimError, match="another layout"):
        ecgqa.read(tmp_path, Reading())


@pytest.mark.data_pack
def test_the_pack_s_published_file_passes_through_the_same_reader(data_pack, tmp_path):
    entries = ecgqa_questions.read_questions(pack_questions.questions_file(data_pack))
    assert len(entries) == 10_000
    assert all(ecgqa.is_asked(entry) for entry in entries)
    assert {answer for entry in entries for answer in entry["answer"]} == {"yes", "no"}
    folder = tmp_path / "ecgqa" / "ptbxl" / "paraphrased" / "train"
    folder.mkdir(parents=True)
    (folder / "120000.json").symlink_to(pack_questions.questions_file(data_pack))
    read = [entry for _, _, entry in ecgqa.entries_of(ecgqa.folder_of(tmp_path), "paraphrased", "train")]
    assert read == entries == pack_questions.read(data_pack)
