"""PTB-XL from its published layout: label rules by hand, records, sites, and what a damaged copy is told."""

import pytest
import torch

from fedkim.data import paper_split
from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import ptbxl, ptbxl_table
from fedkim.errors import FedkimError
from fedkim.modalities import signal
from fedkim.modalities.signal_files import STANDARD_LEADS, read_wave
from fedkim.run.inputs import Window, patient_inputs
from fedkim.tasks import TASKS
from fixtures.writers import ptbxl as writer

CLASSES = {"NORM": "NORM", "IMI": "MI", "LVH": "HYP"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return writer.write(tmp_path_factory.mktemp("data") / "ptbxl")


@pytest.fixture(scope="module")
def records(root):
    return ptbxl.read(root, Reading())


@pytest.mark.parametrize(
    ("codes", "fixed", "paper"),
    [
        ({"NORM": 100.0, "SR": 0.0}, "No", "No"),
        ({"NORM": 50.0}, "No", "Yes"),  # not above 50
        ({"NORM": 0.0, "SR": 0.0}, "No", "Yes"),  # there, ungraded
        ({"IMI": 100.0}, "Yes", "Yes"),
        ({"LVOLT": 0.0}, "Yes", "Yes"),  # of no superclass
        ({"NORM": 80.0, "LVH": 35.0}, "No", "No"),
    ],
)
def test_abnormal_by_both_rules(codes, fixed, paper):
    assert ptbxl.abnormal(codes, CLASSES) == fixed
    assert ptbxl.abnormal(codes, CLASSES, "paper") == paper


@pytest.mark.parametrize(
    ("extra_beats", "fixed", "paper"),
    [
        ("", "No", "No"),
        ("1ES", "Yes", "Yes"),
        ("VES, SVES", "Yes", "Yes"),
        ("alles", "", "Yes"),  # German for "all": the published code finds "es" in it
        ("bigeminus", "", "No"),
        ("VES?", "", "Yes"),
        ("VES2,alles", "Yes", "Yes"),
        ("2ES1?", "", "Yes"),
    ],
)
def test_ectopic_beats_by_both_rules(extra_beats, fixed, paper):
    assert ptbxl.ectopic(extra_beats) == fixed
    assert ptbxl.ectopic(extra_beats, labels="paper") == paper


@pytest.mark.parametrize("code", ["PAC", "PVC", "PRC(S)", "BIGU", "TRIGU"])
def test_a_code_of_extra_beats_says_yes_where_the_column_says_nothing_or_is_unsure(code):
    codes = {
        "IRBBB": 100.0,
        code: 0.0,
        "SR": 0.0,
    }  # as recording 9947's, whose report begins with premature contractions
    assert ptbxl.ectopic("", codes) == ptbxl.ectopic("VES?", codes) == "Yes"
    assert ptbxl.ectopic("", codes, labels="paper") == "No"  # the published code looks at the column alone
    assert ptbxl.ectopic("", {"SR": 0.0, "PACE": 0.0}) == "No"


def test_the_published_code_asks_the_first_so_many_of_each_answer(root, monkeypatch):
    monkeypatch.setitem(paper_split.AT_MOST, "ectopic_beats", 5)
    records = ptbxl.read(root, Reading(labels="paper"))
    asked = [record for record in records if "ectopic_beats" in record.labels]
    answers = [record.labels["ectopic_beats"] for record in asked]
    assert answers.count("Yes") == answers.count("No") == 5
    left = next(record for record in records if "ectopic_beats" not in record.labels)
    assert int(asked[0].id.split("/")[1]) < int(left.id.split("/")[1])


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("{'NORM': 100.0, 'SR': 0.0}", {"NORM": 100.0, "SR": 0.0}),
        ("{}", {}),
        (" {'PRC(S)': 0.0, '3AVB': 15} ", {"PRC(S)": 0.0, "3AVB": 15.0}),
        ("{'NORM': 100.0, 'NORM': 0.0}", None),
        ("{'NORM': 101.0}", None),
        ("{'NORM': 100.0,}", None),
        ('{"NORM": 100.0}', None),
        ("{'NORM': __import__('os').getpid()}", None),
        ("{'NORM': (1)}", None),
        ("['NORM']", None),
        ("", None),
    ],
)
def test_codes_are_parsed_by_their_own_grammar_and_never_run(text, codes):
    assert ptbxl_table.parse_codes(text) == codes


def test_records_say_what_the_tables_say(records):
    assert len(records) == len({record.id for record in records}) == 54
    first = records[0]
    assert (first.id, first.patient, first.published_split) == ("ptbxl/1", "ptbxl/1000", "train")
    assert first.labels == {"ecg_abnormal": "No", "ectopic_beats": "No"}
    assert first.site == "CS-12 E"
    assert records[1].patient == first.patient
    assert {record.published_split for record in records} == {"train", "validation", "test"}
    assert {record.strata["age"] for record in records} == {"<40", "40-59", "60-74", "75-89", ">89"}
    known = PUBLIC_SETS["ptbxl"]
    assert set(known.tasks) == {task for record in records for task in record.labels} <= set(TASKS)


def test_no_patient_is_at_two_natural_sites_or_in_two_published_splits(records):
    for field in ("site", "published_split"):
        held: dict[str, set[str]] = {}
        for record in records:
            held.setdefault(record.patient, set()).add(getattr(record, field))
        assert all(len(values) == 1 for values in held.values())
        assert len({value for values in held.values() for value in values}) == 3


def test_a_patient_s_site_is_the_device_of_the_first_recording():
    def row(number, patient, device):
        return ptbxl_table.Recording(
            number=number, patient=patient, codes={}, extra_beats="", fold=1, device=device, age=None, sex="",
            file_100="", file_500="",
        )  # fmt: skip

    rows = [row(9, "1", "late"), row(2, "1", "early"), row(5, "2", "other")]
    assert ptbxl.device_by_patient(rows) == {"1": "early", "2": "other"}


def test_a_record_is_read_as_twelve_leads_in_the_standard_order(records, root):
    given = records[3].inputs[0]
    found = given.read(given.path, **given.settings)["signal"]
    assert found.shape == (12, 1000)
    assert all(path.is_file() for path in (given.path, *given.companions))
    assert torch.equal(found, signal.read_record(given.path, leads=STANDARD_LEADS))


def test_a_run_reads_a_file_of_whatever_lead_order_as_its_training_did(records, tmp_path):
    given = records[3].inputs[0]
    expected = given.read(given.path, **given.settings)["signal"]

    def asked(path, leads=12):
        shapes = {"signal": (leads, 1000)}
        inputs = patient_inputs(TASKS["ecg_abnormal"], {"signal": path}, Window(), image_size=32, shapes=shapes)
        return inputs["signal"]

    assert torch.equal(asked(given.path), expected)
    wave = read_wave(given.path, 0, 10)
    rows = [f"{at / 100:.2f}," + ",".join(f"{value:.4f}" for value in wave.values[::-1, at]) for at in range(1000)]
    table = tmp_path / "other.csv"
    table.write_text(
        "time," + ",".join(f"{lead} [mV]" for lead in reversed(wave.leads)) + "\n" + "\n".join(rows) + "\n"
    )
    torch.testing.assert_close(asked(table), expected, rtol=0, atol=1e-3)
    with pytest.raises(FedkimError, match=r"found shape \(12, 1000\), expected \(1, 1000\)"):
        asked(given.path, leads=1)


def test_the_500_hz_recordings_serve_where_there_are_no_others_and_give_the_same_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "NUM_PATIENTS", 2)
    monkeypatch.setattr(writer, "_wave", _slow_wave)
    both = writer.write(tmp_path / "both", rates=(100, 500))
    only = writer.write(tmp_path / "only", rates=(500,))
    signals = []
    for root, name in ((both, "_lr.hea"), (only, "_hr.hea")):
        given = ptbxl.read(root, Reading())[0].inputs[0]
        assert given.path.name.endswith(name)
        signals.append(given.read(given.path, **given.settings)["signal"])
    assert (signals[0] - signals[1])[:, 20:-20].abs().max() < 0.03


def _slow_wave(number, rate, **_):
    import numpy as np

    seconds = np.arange(10 * rate) / rate
    return np.stack([np.sin(2 * np.pi * (1 + 0.1 * lead) * seconds) for lead in range(12)])


def test_beats_of_the_two_classes_differ_so_that_a_model_can_learn(records):
    """Half of the recordings tell the level of the ST segment (lead II, after each peak) that parts the other half."""
    levels = {"No": [], "Yes": []}
    for record in records:
        wave = record.inputs[0].read(record.inputs[0].path, **record.inputs[0].settings)["signal"][1]
        peaks = [at for at in range(20, 960) if wave[at] > 0.7 and wave[at] == wave[at - 15 : at + 16].max()]
        levels[record.labels["ecg_abnormal"]].append(sum(float(wave[at + 25]) for at in peaks) / len(peaks))
    assert min(len(values) for values in levels.values()) > 20
    assert sorted(levels["No"])[len(levels["No"]) // 2] > sorted(levels["Yes"])[-len(levels["Yes"]) // 4] + 0.1


def test_a_whole_small_copy_is_told_its_counts_alone(root):
    findings = ptbxl.check(root)
    assert findings.errors == []
    assert {finding.code for finding in findings} == {"W-COUNT", "I-AGE"}
    counts = {finding.field: (finding.found, finding.expected) for finding in findings if finding.code == "W-COUNT"}
    assert counts["recordings"] == ("54", "21,799 in the known release")
    assert counts["patients"] == ("48", "18,869 in the known release")
    assert counts["recordings of NORM"][1].startswith("9,514")
    assert counts["recordings without superclass"][1].startswith("411")


def test_normal_ecgs_of_another_class_too_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "NUM_PATIENTS", 6)
    monkeypatch.setattr(writer, "_CODES", ("{'NORM': 80.0, 'LVH': 35.0}", *writer._CODES[1:]))
    (told,) = [finding for finding in ptbxl.check(writer.write(tmp_path)) if finding.code == "I-NORM"]
    assert told.found.startswith("2 recordings")  # the first patient has two
    assert ptbxl.read(tmp_path, Reading())[0].labels["ecg_abnormal"] == "No"


DAMAGE = {
    "missing-column": ("E-COLUMN", True),
    "bad-codes": ("E-VALUE", True),
    "bad-fold": ("E-VALUE", True),
    "traversal": ("E-VALUE", True),
    "duplicate-recording": ("E-DUPLICATE", True),
    "two-folds": ("E-PATIENT-IN-TWO-SPLITS", False),
    "missing-recording": ("E-FILE-MISSING", True),
    "microvolts": ("E-ECG-AMPLITUDE", False),
    "wrong-rate": ("E-ECG-RATE", False),
    "bad-class": ("E-VALUE", False),
    "half-recording": ("E-ECG-FORMAT", False),
}
"""By damage: the finding's code, and whether reading refuses too (the rest is seen in decoding, or harms nobody)."""


def test_every_damage_of_the_writer_is_tried():
    assert set(DAMAGE) == set(writer.DAMAGES)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_told_by_code_and_no_cell_is_repeated(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(writer, "NUM_PATIENTS", 6)
    root = writer.write(tmp_path / "ptbxl", damage)
    code, refuses = DAMAGE[damage]
    assert {finding.code for finding in ptbxl.check(root).errors} == {code}
    said = " ".join(map(str, ptbxl.check(root)))
    assert not any(cell in said for cell in ("__import__", "passwd", "1000.0", "sinusrhythmus"))
    if refuses:
        with pytest.raises(FedkimError, match=code if code != "E-COLUMN" else "scp_codes"):
            ptbxl.read(root, Reading())


def test_a_folder_of_something_else_is_refused(tmp_path):
    assert {finding.code for finding in ptbxl.check(tmp_path).errors} == {"E-FILE-MISSING"}
    with pytest.raises(FedkimError, match=r"ptbxl_database\.csv, found no such file"):
        ptbxl.read(tmp_path, Reading())
