"""RSNA: one record an image, its labels, its view as site; what a check of a copy finds."""

import pytest
import torch

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import rsna
from fedkim.data.sources.rsna import MIDDLE, NORMAL, OPACITY, Film
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS
from fixtures.writers import rsna as writer


def write(root, damage="", **options):
    return writer.write(root, damage, **({"num_patients": 10} | options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("rsna"))


@pytest.fixture(scope="module")
def records(root):
    return rsna.read(root, Reading(image_size=32))


def film(kind, target):
    return Film(name="a", target=target, kind=kind, num_rows=1)


def test_an_image_with_two_boxes_is_one_record_that_knows_its_rows(root, records):
    assert len((root / rsna.LABELS).read_text().splitlines()) - 1 == 12
    assert len(records) == len({record.id for record in records}) == 10
    assert [record.strata["rows"] for record in records].count("2") == 2


@pytest.mark.parametrize("labels", ["fixed", "paper"])
def test_lung_opacity_is_asked_of_the_two_outer_classes_alone(labels):
    assert rsna.answers(film(OPACITY, "1"), "", labels)["lung_opacity"] == "Yes"
    assert rsna.answers(film(NORMAL, "0"), "", labels)["lung_opacity"] == "No"
    assert "lung_opacity" not in rsna.answers(film(MIDDLE, "0"), "", labels)


def test_the_challenges_own_target_is_asked_of_all_and_the_view_where_it_is_known():
    assert rsna.answers(film(MIDDLE, "0"), "AP") == {"pneumonia_opacity": "No", "ap_view": "Yes", "pa_view": "No"}
    assert rsna.answers(film(OPACITY, "1"), "") == {"lung_opacity": "Yes", "pneumonia_opacity": "Yes"}
    assert rsna.answers(film(OPACITY, "1"), "AP", "paper") == {"lung_opacity": "Yes"}


def test_records_carry_view_and_class_and_can_be_decoded(records):
    assert {record.site for record in records} == {"AP", "PA"}
    assert {record.labels["ap_view"] == "Yes" for record in records if record.site == "AP"} == {True}
    (given,) = records[3].inputs
    assert given.read(given.path, **given.settings)["image"].shape == (1, 32, 32)
    assert set().union(*(record.labels for record in records)) == set(PUBLIC_SETS["rsna"].tasks) <= set(TASKS)


def test_lungs_are_dark_in_every_picture_the_inverted_ones_too(records):
    inverted = 0
    for record in records:
        (given,) = record.inputs
        picture = given.read(given.path, size=32)["image"][0]
        assert picture[7:10, 8:11].mean() < picture[7:10, 15:17].mean()  # a lung's top beside the spine
        told = rsna.dicom.header(given.path, "PhotometricInterpretation")
        inverted += told["PhotometricInterpretation"] == "MONOCHROME1"
    assert inverted == 1


def test_a_fixture_gives_warnings_about_counts_and_no_error(root):
    findings = rsna.check(root)
    assert findings.errors == []
    codes = [finding.code for finding in findings]
    assert codes.count("W-COUNT") == 11
    assert codes.count("I-DCM-INVERTED") == 1
    release = {(f.file, f.field): f.expected.split()[0] for f in findings if f.code == "W-COUNT"}
    assert release[rsna.LABELS, "rows"] == release[rsna.CLASSES, "rows"] == "30,227"
    assert [release[rsna.LABELS, f"images of {n} rows"] for n in (1, 2, 3, 4)] == ["23,286", "3,266", "119", "13"]
    told = next(finding for finding in findings if finding.field == "images")
    assert (told.found, told.expected) == ("10", "26,684 in the known release")
    assert "1 pictures in MONOCHROME1" in next(
        finding.found for finding in findings if finding.code.startswith("I-DCM")
    )


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("no column", "E-COLUMN"),
        ("contradiction", "E-CONTRADICTION"),
        ("missing picture", "E-FILE-MISSING"),
        ("no dicom", "E-DCM-UNREADABLE"),
        ("unknown class", "E-VALUE"),
        ("ragged row", "E-TABLE"),
    ],
)
def test_each_damage_is_found_and_none_is_read_over(tmp_path, damage, code):
    root = write(tmp_path, damage=damage)
    assert code in [finding.code for finding in rsna.check(root).errors]
    if damage == "unknown class":  # no rule has an answer for it
        assert "lung_opacity" not in rsna.read(root, Reading())[-1].labels
        return
    with pytest.raises(FedkimError) as caught:
        rsna.read(root, Reading())
    assert caught.value.code in (code, "E-DCM-UNREADABLE")
    assert "00000000-0000" not in str(caught.value) or damage == "no dicom"


def test_with_rsna_s_mapping_the_patients_are_nih_s_and_without_it_a_check_says_what_counts(tmp_path, root):
    mapped = write(tmp_path / "mapped", mapping=True)
    read = rsna.read(mapped, Reading(image_size=32))
    assert [record.patient for record in read[:3]] == ["rsna/nih-00000000", "rsna/nih-00000000", "rsna/nih-00000001"]
    assert len({record.patient for record in read}) == 5
    assert [record.id for record in read] == [record.id for record in rsna.read(root, Reading(image_size=32))]
    told = [{finding.code for finding in rsna.check(copy)} for copy in (mapped, root)]
    assert ["W-NO-PATIENT" in codes for codes in told] == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("00000001_000.png", "1_0.png", "E-VALUE"),
        ("00000003-0000", "ffffffff-0000", "E-CONTRADICTION"),
        ("[", "{", "E-TABLE"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused(tmp_path, old, new, code):
    mapping = write(tmp_path, mapping=True) / rsna.MAPPING
    mapping.write_text(mapping.read_text().replace(old, new, 1))
    assert [finding.code for finding in rsna.check(tmp_path).errors] == [code]
    with pytest.raises(FedkimError) as caught:
        rsna.read(tmp_path, Reading())
    assert caught.value.code == code


def test_a_table_as_kaggle_packs_a_single_file_is_told_to_be_unzipped(tmp_path):
    table = write(tmp_path) / rsna.LABELS
    table.rename(table.with_name(f"{table.name}.zip"))
    with pytest.raises(FedkimError, match=r"no such file; unzip stage_2_train_labels\.csv\.zip where it lies"):
        rsna.read(tmp_path, Reading())


def test_ids_are_strings_that_are_never_merged(tmp_path):
    write(tmp_path, num_patients=2)
    pictures = sorted((tmp_path / rsna.IMAGES).iterdir())
    for path, name in zip(pictures, ("007", "7")):
        path.rename(path.with_name(f"{name}.dcm"))
    (tmp_path / rsna.LABELS).write_text("patientId,x,y,width,height,Target\n007,1,1,1,1,1\n7,,,,,0\n")
    (tmp_path / rsna.CLASSES).write_text(f"patientId,class\n007 ,{OPACITY}\n7,{NORMAL}\n")
    read = rsna.read(tmp_path, Reading(image_size=32))
    assert [(record.patient, record.labels["lung_opacity"]) for record in read] == [
        ("rsna/007", "Yes"),
        ("rsna/7", "No"),
    ]


def test_a_patient_id_cannot_lead_out_of_the_folder(tmp_path):
    write(tmp_path, num_patients=2)
    table = tmp_path / rsna.LABELS
    table.write_text(table.read_text() + "../secret,,,,,0\n")
    with pytest.raises(FedkimError, match="row 4, found a patientId that is no file's name"):
        rsna.read(tmp_path, Reading())


def test_synthetic_opacities_can_be_learned(tmp_path):
    """Without this a recipe's test on this fixture couldn't tell training from none."""
    records = rsna.read(write(tmp_path, num_patients=60), Reading(image_size=32))
    asked = [record for record in records if "lung_opacity" in record.labels]
    pictures = torch.stack([r.inputs[0].read(r.inputs[0].path, size=32)["image"] for r in asked]).flatten(1)
    sick = torch.tensor([record.labels["lung_opacity"] == "Yes" for record in asked])
    direction = pictures[sick][:12].mean(0) - pictures[~sick][:12].mean(0)
    scores = pictures @ direction
    assert scores[sick][12:].min() > scores[~sick][12:].max()
