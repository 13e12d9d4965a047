"""YAIB cohorts from their published layout: windows that don't leak, units, and what a damaged copy is told."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import torch

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import matching, pack_icu, pack_stays, yaib, yaib_check, yaib_tables
from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS
from fedkim.tasks import TASKS
from fixtures.writers import yaib as writer


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return writer.write(tmp_path_factory.mktemp("data") / "yaib")


@pytest.fixture(scope="module")
def records(root):
    return yaib.read(root, Reading())


def windows(records, task):
    """``(stay, hour before which the window ends, answer)`` of a task."""
    return [
        (record.patient, record.inputs[0].settings["until_hour"], record.labels[task])
        for record in records
        if task in record.labels
    ]


def test_first_days_carry_the_outcome_and_windows_the_onset(records):
    assert len(records) == len({record.id for record in records})
    assert set(PUBLIC_SETS["yaib"].tasks) == {task for record in records for task in record.labels} <= set(TASKS)
    days = [record for record in records if "mortality" in record.labels]
    assert len(days) == 120
    assert {record.inputs[0].settings["until_hour"] for record in days} == {24}
    assert days[0].id.startswith("yaib/eicu_demo/") or days[0].id.startswith("yaib/mimic_demo/")
    assert {record.site for record in records} == {"mimic_demo", "eicu_demo"}
    assert all(record.labels["mortality"] == ("Yes" if int(record.patient[-6:]) % 3 == 0 else "No") for record in days)


@pytest.mark.parametrize("task", ["aki", "sepsis"])
def test_by_the_fixed_rule_the_length_of_a_window_says_nothing(records, task):
    asked = windows(records, task)
    hours = {f"{stay}@{hour}": hour for stay, hour, _ in asked}
    outcomes = {f"{stay}@{hour}": answer == "Yes" for stay, hour, answer in asked}
    assert yaib_check.length_auroc(hours, outcomes) == 0.5
    assert sum(outcomes.values()) * (1 + yaib.CONTROLS[task]) == len(outcomes)


def test_by_the_paper_s_rule_it_tells_the_label(root):
    asked = windows(yaib.read(root, Reading(labels="paper")), "aki")
    assert len(asked) == 120  # every stay of both sources
    hours = {stay: hour for stay, hour, _ in asked}
    assert yaib_check.length_auroc(hours, {stay: answer == "Yes" for stay, _, answer in asked}) > 0.7


def test_a_case_is_cut_before_its_onset_and_never_sees_it(records, root):
    courses = yaib_tables.read_courses(root / "aki" / "eicu_demo", "eicu_demo")
    cases = [record for record in records if record.labels.get("aki") == "Yes" and record.site == "eicu_demo"]
    assert cases
    for record in cases:
        settings = record.inputs[0].settings
        assert settings["until_hour"] == courses[f"eicu_demo/{settings['stay']}"].onset


def test_a_window_holds_the_four_groups_of_hours(records):
    given = records[0].inputs[0]
    tensors = given.read(given.path, **given.settings)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: (24, 2 * len(group)) for name, group in CONCEPTS.items()
    }
    assert tensors["vitals"].any()
    values = yaib_tables.read_hourly(given.path.parent, "s")
    expected = yaib_tables.tensors([values.window(f"s/{given.settings['stay']}")])
    assert all(torch.equal(tensors[name], expected[name][0]) for name in CONCEPTS)


def test_who_dies_differs_so_that_a_model_can_learn(records):
    rates = {"Yes": [], "No": []}
    for record in records:
        if "mortality" in record.labels:
            given = record.inputs[0]
            rates[record.labels["mortality"]].append(
                float(given.read(given.path, **given.settings)["vitals"][:, 0].mean())
            )
    assert min(rates["Yes"]) > max(rates["No"])


def test_one_patient_s_stays_stay_together_where_a_table_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "TASKS", ("mortality24",))
    root = writer.write(tmp_path / "yaib", patients=True)
    records = yaib.read(root, Reading())
    assert "yaib/eicu_demo/patient-000" in {record.patient for record in records}
    stays = {
        record.inputs[0].settings["stay"] for record in records if record.patient.endswith("mimic_demo/patient-001")
    }
    assert stays == {"201002", "201003"}
    assert not [finding for finding in yaib.check(root) if finding.code == "W-NO-PATIENT"]
    path = root / "patients" / "eicu_demo.csv"
    path.write_text(path.read_text().replace("201002,001\n", ""))
    with pytest.raises(FedkimError, match="a stay without a patient"):
        yaib.read(root, Reading())


def test_stays_called_007_and_7_stay_two(tmp_path):
    hours = pandas.DataFrame({"stay_id": ["007", "7", "x"], "time": [0, 0, 0], "label": [1, 0, 0]})
    hours = hours.assign(**{concept.name: [80.0, 90.0, 100.0] for group in CONCEPTS.values() for concept in group})
    for file in ("dyn.parquet", "outc.parquet"):
        hours.to_parquet(tmp_path / file)
    assert set(yaib_tables.read_hourly(tmp_path, "own").values) == {"own/007", "own/7", "own/x"}
    assert set(yaib_tables.read_courses(tmp_path, "own")) == {"own/007", "own/7", "own/x"}
    hours.iloc[:0].to_parquet(tmp_path / "dyn.parquet")
    with pytest.raises(FedkimError, match="found no row"):
        yaib_tables.read_hourly(tmp_path, "own")
    hours.assign(stay_id=["007", None, "x"]).to_parquet(tmp_path / "dyn.parquet")
    with pytest.raises(FedkimError, match=r"stay_id.*empty cells"):
        yaib_tables.read_hourly(tmp_path, "own")


def test_matching_serves_each_case_the_first_free_controls_of_its_hour():
    """Against the plain rule, stay by stay."""
    generator = np.random.default_rng(0)
    courses = {}
    for stay in range(120):
        onset = int(generator.integers(6, 40)) if stay % 4 == 0 else None
        last = (onset + 6) if onset is not None else int(generator.integers(5, 44))
        courses[f"s/{stay}"] = yaib_tables.Course(last_hour=last, onset=onset, usable=stay != 8)
    found = matching.match([list(courses)], courses, 3, 0, "x")
    free = sorted(
        (stay for stay in courses if courses[stay].onset is None),
        key=lambda stay: (matching.seed_for(0, "match", "x", stay), stay),
    )
    expected = []
    cases = [(course.onset, stay) for stay, course in courses.items() if course.onset is not None and course.usable]
    for onset, stay in sorted(cases, key=lambda case: (-case[0], case[1])):
        chosen = [other for other in free if courses[other].last_hour >= onset][:3]
        if len(chosen) == 3:
            free = [other for other in free if other not in chosen]
            expected += [(stay, onset, True), *((other, onset, False) for other in chosen)]
    assert [(window.stay, window.until_hour, window.case) for window in found] == expected
    assert 8 < sum(case for _, _, case in expected) < len(cases)


def test_a_whole_small_copy_is_told_its_counts_its_gaps_and_its_leak(root):
    findings = yaib.check(root)
    assert findings.errors == []
    assert {finding.code for finding in findings} == {"W-COUNT", "I-SERIES-EMPTY", "W-LENGTH", "W-NO-PATIENT"}
    counts = {(finding.file, finding.field): finding.expected for finding in findings if finding.code == "W-COUNT"}
    assert counts["aki/eicu_demo/outc.parquet", "stays"].startswith("1,988")
    assert counts["mortality24/mimic_demo/outc.parquet", "positive stays"].startswith("21")
    assert {f.file for f in findings if f.code == "W-LENGTH"} <= {
        f"{t}/{s}" for t in ("aki", "sepsis") for s in writer.NUM_STAYS
    }


def test_the_hours_auroc_is_the_probability_that_a_positive_is_longer():
    hours = {str(number): number for number in range(10)}
    assert yaib_check.length_auroc(hours, {str(number): number >= 5 for number in range(10)}) == 1
    assert yaib_check.length_auroc(hours, {str(number): number % 2 == 0 for number in range(10)}) == pytest.approx(0.6)
    assert yaib_check.length_auroc(hours, {str(number): number > 7 for number in range(10)}) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mimic", "miiv", True),
        ("mimic_demo", "miiv", True),
        ("mimic_carevue", "miiv", False),
        ("mimic_carevue", "mimic", True),
        ("mimic_carevue", "mimic_demo", True),
        ("mimic_carevue", "miiv_demo", False),
        ("mimic_demo", "miiv_demo", True),
        ("eicu", "eicu_demo", True),
        ("eicu_demo", "mimic_demo", False),
        ("hirid", "aumc", False),
        ("eicu_ward1", "eicu_ward2", False),
    ],
)
def test_sources_of_the_same_patients_are_known_by_their_names(one, other, same):
    assert yaib.same_patients(one, other) == yaib.same_patients(other, one) == same


def test_two_sources_of_the_same_patients_are_refused_even_for_different_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "TASKS", ("mortality24",))
    monkeypatch.setattr(writer, "NUM_STAYS", {"mimic_demo": 20})
    root = writer.write(tmp_path / "yaib")
    (root / "sepsis").mkdir()
    (root / "mortality24" / "mimic_demo").rename(root / "mortality24" / "mimic")
    shutil.copytree(root / "mortality24" / "mimic", root / "sepsis" / "miiv")
    assert "E-LEAK-SOURCE" in {finding.code for finding in yaib.check(root).errors}
    with pytest.raises(FedkimError, match="E-LEAK-SOURCE mimic, found patients whom miiv holds too"):
        yaib.read(root, Reading())


def test_a_column_that_r_wrote_without_any_value_counts_as_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "TASKS", ("mortality24",))
    monkeypatch.setattr(writer, "NUM_STAYS", {"eicu_demo": 20})
    root = writer.write(tmp_path / "yaib")
    path = root / "mortality24" / "eicu_demo" / "dyn.parquet"
    plain = [
        record.inputs[0].read(record.inputs[0].path, **record.inputs[0].settings)
        for record in yaib.read(root, Reading())
    ]
    table = pyarrow.parquet.read_table(path)
    place, nothing = table.schema.get_field_index("bnd"), pyarrow.array([None] * len(table), type=pyarrow.bool_())
    pyarrow.parquet.write_table(table.set_column(place, "bnd", nothing), path)
    assert pandas.read_parquet(path)["bnd"].dtype == object
    assert yaib.check(root).errors == []
    again = [
        record.inputs[0].read(record.inputs[0].path, **record.inputs[0].settings)
        for record in yaib.read(root, Reading())
    ]
    assert all(torch.equal(one[name], other[name]) for one, other in zip(plain, again, strict=True) for name in one)


@pytest.mark.parametrize("name", ["ICUSTAYS.csv", "ICUSTAYS.csv.gz"])
@pytest.mark.parametrize("upper", [True, False])
def test_the_documented_table_of_patients_is_made_of_any_release_s_icustays(tmp_path, name, upper):
    page = (Path(__file__).parents[2] / "docs" / "data" / "yaib.md").read_text(encoding="utf-8")
    made: dict = {}
    exec(
        next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "write_patients" in block), made
    )
    header = "row_id,subject_id,hadm_id,icustay_id"
    text = f"{header.upper() if upper else header}\n1,10,20,201000\n2,10,21,201001\n"
    source = tmp_path / name
    source.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    made["write_patients"](source, tmp_path / "mimic.csv")
    assert (tmp_path / "mimic.csv").read_text().split() == ["stay_id,patient_id", "201000,10", "201001,10"]


DAMAGE = {
    "missing-column": ("E-SERIES-COLUMN", "no column 'crea'"),
    "text": ("E-SERIES-TEXT", "no numbers"),
    "hour-gap": ("E-SERIES-HOURS", "hours missing"),
    "other-label": ("E-VALUE", "other labels"),
    "unlike-stays": ("E-CONTRADICTION", "only one of dyn and outc"),
    "micromolar": ("E-UNIT", "E-UNIT"),
    "no-outcome": ("E-FILE-MISSING", "no such file"),
    "no-parquet": ("E-SERIES-FORMAT", "unreadable"),
    "no-cohort": ("E-FILE-MISSING", "found none"),
}


def test_every_damage_of_the_writer_is_tried():
    assert set(DAMAGE) == set(writer.DAMAGES)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_told_by_code_and_refused(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(writer, "TASKS", ("mortality24",))
    monkeypatch.setattr(writer, "NUM_STAYS", {"eicu_demo": 20})
    root = writer.write(tmp_path / "yaib", damage)
    code, message = DAMAGE[damage]
    assert {finding.code for finding in yaib.check(root).errors} == {code}
    with pytest.raises(FedkimError, match=message) as caught:
        yaib.read(root, Reading())
    assert "201000" not in str(caught.value)


@pytest.mark.data_pack
def test_the_pack_s_real_cohorts_pass_through_the_same_reader(data_pack):
    root = data_pack / pack_stays.FOLDER
    findings = yaib.check(root)
    assert findings.errors == []
    assert "W-COUNT" not in {finding.code for finding in findings}
    assert {"sepsis/eicu_demo", "aki/mimic_demo"} <= {f.file for f in findings if f.code == "W-LENGTH"}
    records = yaib.read(root, Reading())
    assert len(windows(records, "mortality")) == 1_466
    assert [answer for _, _, answer in windows(records, "mortality")].count("Yes") == 91
    assert [answer for _, _, answer in windows(records, "sepsis")].count("Yes") == 63
    assert len({record.patient for record in records}) <= 2_333
    paper = yaib.read(root, Reading(labels="paper"))
    assert [answer for _, _, answer in windows(paper, "aki")].count("Yes") == 742


@pytest.mark.data_pack
def test_a_first_day_of_the_pack_is_the_same_tensor_through_both_loaders(data_pack):
    by_stay = {}
    for record in yaib.read(data_pack / pack_stays.FOLDER, Reading()):
        if "mortality" in record.labels:
            by_stay[record.patient.removeprefix("yaib/").replace("_demo", "")] = record
    compared = 0
    for sample in pack_icu.samples(data_pack, 0, 0):
        if "icu_mortality" in sample.labels:
            record = by_stay[sample.patient]
            given = record.inputs[0]
            tensors = given.read(given.path, **given.settings)
            assert all(torch.equal(tensors[name], tensor) for name, tensor in sample.inputs.items())
            assert record.labels["mortality"] == sample.labels["icu_mortality"]
            compared += 1
    assert compared == 1_466


def test_the_writer_makes_the_published_columns(root):
    table = pandas.read_parquet(root / "aki" / "eicu_demo" / "dyn.parquet")
    assert list(table.columns[:3]) == ["stay_id", "time", "alb"]
    assert len(table.columns) == 50
    assert table["time"].dtype == "timedelta64[s]"
