"""The public source: sets read together, split together, and its mistakes told by name."""

import logging
from collections import Counter
from pathlib import Path

import pytest
import tiny_set

from fedkim.data.paper_split import exposure, place_by_row
from fedkim.data.public_sets import BUILT_IN, PUBLIC_SETS, known_sets
from fedkim.data.record import Input, Record
from fedkim.data.registry import SOURCES
from fedkim.errors import FedkimError
from fedkim.recipe import Data, Recipe, Tasks


@pytest.fixture(autouse=True)
def _sets(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLIC_SETS, "tiny", tiny_set.public_set())
    monkeypatch.setitem(PUBLIC_SETS, "other", tiny_set.public_set("other", tiny_set.read_other, ("lung_opacity",)))


def recipe(roots, *, seen=("covid",), unseen=("atelectasis",), **data):
    roots = {name: str(root) for name, root in roots.items()}
    return Recipe(data=Data(source="public", roots=roots, image_size=32, **data), tasks=Tasks(seen=seen, unseen=unseen))


def load(*arguments, **keywords):
    return SOURCES["public"](recipe(*arguments, **keywords))


def test_a_set_becomes_a_data_set_split_by_patient_with_unseen_labels_held_back(tmp_path):
    tiny_set.write(tmp_path / "a")
    data = load({"tiny": tmp_path / "a"})
    assert data.name == "tiny"
    assert len(data) == 60
    assert data.shapes() == {"image": (1, 32, 32)}
    patients = {sample.patient: sample.split for sample in data}
    assert Counter(patients.values()) == {"private": 21, "public": 3, "development": 3, "test": 3}
    for sample in data:
        assert ("atelectasis" in sample.labels) == (sample.split in ("development", "test"))
        assert patients[sample.patient] == sample.split


def test_a_picture_of_another_set_pulls_its_patient_into_the_same_split(tmp_path, caplog):
    tiny_set.write(tmp_path / "a")
    tiny_set.write(tmp_path / "b", 40, seed=5, tasks=("lung_opacity", "atelectasis"))
    for number in range(10):
        target = tmp_path / "b" / "films" / f"{number}.png"
        target.write_bytes((tmp_path / "a" / "films" / f"{50 - number}.png").read_bytes())
    with caplog.at_level(logging.WARNING):
        data = load({"tiny": tmp_path / "a", "other": tmp_path / "b"}, seen=("covid", "lung_opacity"))
    assert "share a picture" in caplog.text
    by_bytes = {}
    for sample in data:
        by_bytes.setdefault(sample.inputs["image"].numpy().tobytes(), set()).add(sample.split)
    assert len(by_bytes) == len(data) - 10
    assert all(len(splits) == 1 for splits in by_bytes.values())


def test_patients_with_unseen_labels_alone_are_never_trained_on(tmp_path):
    rows = tiny_set.write(tmp_path / "a")
    tiny_set.write_table(
        tmp_path / "a", [[*row[:2], "" if index < 20 else row[2], row[3]] for index, row in enumerate(rows)]
    )
    data = load({"tiny": tmp_path / "a"})
    splits = {s.patient: s.split for s in data if int(s.patient.removeprefix("tiny/p")) < 10}
    assert Counter(splits.values()) == {"development": 2, "test": 8}


def test_the_paper_split_is_by_row_and_says_how_much_it_leaks(tmp_path, caplog):
    tiny_set.write(tmp_path / "a", 60)
    with caplog.at_level(logging.WARNING):
        data = load({"tiny": tmp_path / "a"}, split="paper")
    seen = [sample for sample in data if "covid" in sample.labels]
    assert Counter(sample.split for sample in seen) == {"private": 42, "development": 6, "public": 6, "test": 6}
    assert sum("atelectasis" in sample.labels for sample in data.split("test")) == 60
    assert "covid: of 6 test rows" in caplog.text
    trained = {s.patient for s in data if s.split != "test"}
    tested = [s for s in seen if s.split == "test"]
    share = 100 * sum(s.patient in trained for s in tested) / len(tested)
    assert share > 50  # two films a patient
    assert f"covid: of 6 test rows {share:.1f} % are of patients, and 0.0 % of the very inputs" in caplog.text
    assert "and 90.0 % of the very inputs" in caplog.text  # 54 of 60 films asked about are not in the seen task's test
    assert len({sample.id for sample in data}) == len(data)


def test_the_paper_split_of_a_table_with_a_row_for_each_box_leaks_what_was_measured_on_rsna():
    """RSNA's images by rows: 2,614 with one box, 3,266 two, 119 three, 13 four; 8,851 normal. 35 % of its test is known."""
    boxes = [(2614, 1, "Yes"), (3266, 2, "Yes"), (119, 3, "Yes"), (13, 4, "Yes"), (8851, 1, "No")]
    records = []
    for number, rows, answer in boxes:
        for _ in range(number):
            path = Path(f"{len(records)}.png")
            given = (Input(path=path, read=tiny_set.read_film),)
            name = f"rsna/{len(records)}"
            strata = {"rows": str(rows)}
            records.append(Record(id=name, patient=name, inputs=given, labels={"lung_opacity": answer}, strata=strata))
    rows = place_by_row(records, seen=("lung_opacity",), seed=42)
    assert len(rows) == 18_406
    (shown,) = exposure(records, rows, [])
    assert shown.rows == pytest.approx(1841, abs=1)
    assert shown.contents_shown == shown.patients_shown
    assert shown.contents_shown / shown.rows == pytest.approx(0.35, abs=0.02)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"roots": {}}, "found no data set"),
        ({"roots": {"tinny": "a"}}, "unknown public data set 'tinny'; did you mean 'tiny'"),
        ({"roots": {"tiny": "nowhere"}}, "no folder"),
        ({"seen": ("covid", "mortality")}, "task 'mortality', found no row with a label of it in tiny"),
        ({"seen": ("covid", "lung_opacity")}, r"add .*other.* to"),
        ({"versions": {"tiny": "2"}}, "expected no version"),
        ({"versions": {"other": "2"}}, "expected a set that roots names"),
    ],
)
def test_a_mistake_is_told_by_name(how, message, tmp_path):
    tiny_set.write(tmp_path / "a", 8)
    roots = {name: tmp_path / folder for name, folder in how.pop("roots", {"tiny": "a"}).items()}
    with pytest.raises(FedkimError, match=message):
        load(roots, **how)


def test_an_id_written_in_two_ways_is_refused_without_repeating_it(tmp_path):
    rows = tiny_set.write(tmp_path / "a", 8)
    tiny_set.write_table(tmp_path / "a", [*rows[:-1], [rows[-1][0], rows[-1][1].upper(), *rows[-1][2:]]])
    with pytest.raises(FedkimError, match="E-ID-CASE") as caught:
        load({"tiny": tmp_path / "a"})
    assert "P3" not in str(caught.value)


def test_pictures_and_waves_of_other_shapes_are_refused(tmp_path):
    rows = tiny_set.write(tmp_path / "a", 8)
    for index, leads in ((0, 2), (1, 3)):
        tiny_set.write_wave(tmp_path / "a" / f"{index}.csv", tiny_set.wave(index, leads=leads), 100)
    more = [[f"{index}.csv", f"q{index}", "Yes", "No"] for index in (0, 1)]
    tiny_set.write_table(tmp_path / "a", [*rows, *more])
    with pytest.raises(FedkimError, match=r"signal of sample tiny/1\.csv, found shape"):
        load({"tiny": tmp_path / "a"})


def test_an_input_that_cannot_be_read_is_told_with_its_record_and_what_can_be_done(tmp_path):
    tiny_set.write(tmp_path / "a")
    (tmp_path / "a" / "films" / "5.png").write_bytes(b"no picture")
    with pytest.raises(
        FedkimError, match=r"^sample tiny/5\.png: .*films/5\.png, found .* take it out of the copy"
    ) as caught:
        load({"tiny": tmp_path / "a"})
    assert f"fedkim data check tiny {tmp_path / 'a'} --contents tells all such files" in str(caught.value)
    assert caught.value.code == "E-IMG-FORMAT"


def test_every_set_that_comes_along_registers_under_its_name():
    sets = known_sets()
    assert {"tiny", "other"} <= set(sets)
    for name, known in sets.items():
        assert known.name == name
    assert list(sets)[: len(set(BUILT_IN) & set(sets))] == [name for name in BUILT_IN if name in sets]
