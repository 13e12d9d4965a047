"""Synthetic lists in the benchmark's form become a site that the rest of the package reads."""

import json

import numpy as np
import pytest

from fedkim.cli.app import main
from fedkim.data import hospital
from fedkim.data.hospital.fedmeki import parse_answer
from fedkim.errors import FedkimError
from hospital_files import write_image

COVID = "<text>\nBased on this image, is the patient COVID-19 positive?"
OPACITY = "<image>\nAssess this CT image: should it be classified as lung opacity?"


def row(path, question, answer, **more):
    turns = [{"from": "question", "value": question}, {"from": "answer", "value": answer}]
    return {"modality_path": path, "conversations": turns, "task_type": "…", "modalities": "Image only", **more}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "copy").mkdir()
    for number in range(8):
        write_image(tmp_path / "copy" / "images" / f"{number}.png", np.random.default_rng(number))
    return tmp_path / "copy"


def write(folder, **lists):
    paths = []
    for name, rows in lists.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return paths


def imported(tmp_path, root, **lists):
    return hospital.import_fedmeki(write(tmp_path, **lists), root=root, out=tmp_path / "out")


def codes(result):
    return {finding.code: finding.found for finding in result.findings}


def test_lists_become_a_site_with_their_splits_answers_and_questions(tmp_path, root):
    result = imported(
        tmp_path,
        root,
        covid_client=[
            row("images/0.png", COVID, "Answer: Yes"),
            row("/data/of/somebody/images/1.png", COVID, "Answer: No"),
        ],
        covid_test=[row("images/2.png", COVID, "Answer: No")],
        rsna_valid=[row("images/3.png", OPACITY, "Yes")],
        rad_server=[
            row("images/4.png", "<image>\nwhich lobe?", "Answer: upper"),
            row("images/4.png", "why, where?", "x"),
        ],
    )
    assert len(result.findings) == 0
    assert result.counts["covid"] == {"private": 2, "test": 1}
    assert hospital.check(result.site_file).errors == []
    samples = list(hospital.load_site(result.site_file))
    told = [(sample.split, dict(sample.labels), dict(sample.questions)) for sample in samples]
    assert told == [
        ("private", {"covid": "Yes"}, {}),
        ("private", {"covid": "No"}, {}),
        ("test", {"covid": "No"}, {}),
        ("development", {"lung_opacity": "Yes"}, {}),
        ("public", {"vqa_rad": "upper"}, {"vqa_rad": "which lobe?"}),
        ("public", {"vqa_rad": "x"}, {"vqa_rad": "why, where?"}),
    ]
    assert samples[4].patient == samples[5].patient


def test_a_picture_on_both_sides_stays_on_the_held_out_side_over_all_tasks(tmp_path, root):
    result = imported(
        tmp_path,
        root,
        covid_client=[row("images/0.png", COVID, "No"), row("images/1.png", COVID, "No")],
        covid_server=[row("images/1.png", COVID, "No"), row("images/2.png", COVID, "Yes")],
        rsna_test=[row("images/0.png", OPACITY, "Yes"), row("images/5.png", OPACITY, "Yes")],
    )
    leaks = [finding.found for finding in result.findings if finding.code == "W-FEDMEKI-LEAK"]
    assert leaks == [
        "1 of the 2 files of test also in another split",
        "1 of the 2 files of public also in another split",
    ]
    assert result.counts == {"covid": {"public": 2}, "lung_opacity": {"test": 2}}


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path, root):
    result = imported(
        tmp_path,
        root,
        covid_client=[
            row("images/0.png", COVID, "Answer: Yes"),
            row("images/0.png", COVID, "Answer: Yes"),  # a second box
            row("images/1.png", COVID, "Yes"),
            row("images/1.png", COVID, "No"),
            row("images/2.png", COVID, "normal"),
            row("images/99.png", COVID, "No"),
            row("../../etc/passwd", COVID, "No"),
            row("/", "<ecg>\nIs the given ECG abnormal?", "No"),
            row("stays/1.pt", "Based on these clinical features, will sepsis occur in this patient?", "No"),
            row("images/3.png", "Is it a cat?", "No"),
            row(None, COVID, "No"),
            {"modality_path": 3},
            "text",
        ],
    )
    assert codes(result) == {
        "W-FEDMEKI-ANSWER": "1 row without a clear answer",
        "W-FEDMEKI-CONFLICT": "2 rows that contradict another",
        "W-FEDMEKI-FILE": "3 rows whose file isn't below the root",
        "W-FEDMEKI-INPUT": "1 row without a file",
        "W-FEDMEKI-ROW": "2 rows of another form",
        "W-FEDMEKI-TASK": "1 row of an unknown task",
        "W-FEDMEKI-TENSOR": "1 row with a pickled tensor",
        "I-FEDMEKI-TWICE": "1 row more than once",
    }
    assert result.counts == {"covid": {"private": 1}}


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Answer: Yes", "Yes"), ("yes", "Yes"), (" ANSWER :  no ", "No"), ("normal", None), ("not sure", None),
     ("Yes and No", None), ("Answer:", None), ("", None), ("Yes.", None)],
)  # fmt: skip
def test_an_answer_is_exactly_one_of_the_tasks_or_nothing(text, answer):
    assert parse_answer(text, ("No", "Yes")) == answer


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("covid_client", "[", "no JSON list"),
        ("covid_client", "{}", "no JSON list"),
        ("covid_client", "[" * 100_000, "no JSON list"),
        ("covid_client", "[]", "no row that can be used"),
        ("covid", "[]", "expected a name such as"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, root, name, content, message):
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(FedkimError, match=message):
        hospital.import_fedmeki([tmp_path / f"{name}.json"], root=root, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_import_never_writes_over_another(tmp_path, root):
    rows = {"covid_client": [row("images/0.png", COVID, "No")]}
    imported(tmp_path, root, **rows)
    with pytest.raises(FedkimError, match="choose another --out"):
        imported(tmp_path, root, **rows)


def test_the_pleural_effusion_lists_come_with_a_warning(tmp_path, root):
    question = "Does this image show evidence of pleural effusion?"
    assert "W-FEDMEKI-EFFUSION" in codes(
        imported(tmp_path, root, pf_test=[row("images/0.png", question, "Answer: No")])
    )


def test_half_of_an_import_is_not_left_behind(tmp_path, root, capsys):
    (file,) = write(tmp_path, covid_client=[row("images/0.png", COVID, "Answer: Yes")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "site.toml").write_text("mine")
    assert main(["data", "import-fedmeki", str(file), "--root", str(root), "--out", str(out)]) == 2
    assert "files of that name" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in out.iterdir()} == {"site.toml": "mine"}


def test_the_verb_writes_and_tells(tmp_path, root, capsys):
    (file,) = write(
        tmp_path, covid_client=[row("images/0.png", COVID, "Answer: Yes"), row("images/9.png", COVID, "No")]
    )
    assert main(["data", "import-fedmeki", str(file), "--root", str(root), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "covid: private 1" in printed
    assert "W-FEDMEKI-FILE covid_client.json, found 1 row" in printed
    assert main(["data", "check", str(tmp_path / "out" / "site.toml")]) == 0
