"""CheXpert: the validation set alone unless asked for more, labels by policy, the published code's wrong column."""

import pytest

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import chexpert
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS
from fixtures.writers import chexpert as writer


def write(root, damage="", **options):
    return writer.write(root, damage, **({"num_patients": 10} | options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("chexpert"), train=True)


def row(**values):
    """A row without any finding, but for these columns (``pleural_effusion="1.0"``)."""
    cells = dict.fromkeys((chexpert.NO_FINDING, *chexpert.FINDINGS.values()), "0.0")
    named = {chexpert.FINDINGS.get(name, chexpert.NO_FINDING): value for name, value in values.items()}
    return cells | named


def test_the_published_code_answered_the_effusion_with_the_atelectasis_and_ours_does_not():
    only_effusion = row(pleural_effusion="1.0")
    assert chexpert.answers(only_effusion, "valid", labels="paper")["pleural_effusion"] == "No"
    assert chexpert.answers(only_effusion, "valid")["pleural_effusion"] == "Yes"
    only_atelectasis = row(atelectasis="1.0")
    assert chexpert.answers(only_atelectasis, "valid", labels="paper")["pleural_effusion"] == "Yes"
    assert chexpert.answers(only_atelectasis, "valid")["pleural_effusion"] == "No"


@pytest.mark.parametrize(
    ("policy", "atelectasis", "effusion"),
    [("best", "Yes", "No"), ("ignore", None, None), ("zeros", "No", "No"), ("ones", "Yes", "Yes")],
)
def test_an_uncertain_finding_is_answered_by_the_policy(policy, atelectasis, effusion):
    found = chexpert.answers(row(atelectasis="-1.0", pleural_effusion="-1.0"), "train", policy=policy)
    assert (found.get("atelectasis"), found.get("pleural_effusion")) == (atelectasis, effusion)
    assert found["cardiomegaly"] == "No"


def test_what_a_report_does_not_mention_is_unknown_unless_it_says_no_finding():
    assert "edema" not in chexpert.answers(row(edema=""), "train")
    assert chexpert.answers(row(edema="", no_finding="1.0"), "train")["edema"] == "No"
    assert chexpert.answers(row(edema=""), "train", labels="paper") == {
        "enlarged_cardiomediastinum": "No", "atelectasis": "No", "pleural_effusion": "No",
    }  # fmt: skip


@pytest.mark.parametrize("value", ["-1.0", "", "2", "positive"])
def test_valid_holds_ones_and_zeros_alone(value):
    with pytest.raises(FedkimError) as caught:
        chexpert.answers(row(edema=value), "valid")
    assert caught.value.code == "E-VALUE"


def test_the_first_version_is_the_validation_set_alone(root):
    records = chexpert.read(root, Reading(image_size=32))
    assert {record.published_split for record in records} == {"valid"}
    assert len(records) == 13
    assert len({record.patient for record in records}) == 10
    assert set().union(*(record.labels for record in records)) == set(PUBLIC_SETS["chexpert"].tasks) <= set(TASKS)


def test_a_patients_pictures_share_the_patient_and_differ_by_view(root):
    first, second = chexpert.read(root, Reading(image_size=32))[:2]
    assert first.patient == second.patient == "chexpert/patient64541"
    assert (first.site, second.site) == ("AP", "lateral")
    (given,) = second.inputs
    assert given.read(given.path, **given.settings)["image"].shape == (1, 32, 32)


def test_other_versions_read_the_training_set_too_and_say_so_in_every_sample(root):
    records = chexpert.read(root, Reading(version="train-ignore"))
    assert {record.published_split for record in records} == {"train", "valid"}
    assert {record.strata["version"] for record in records} == {"train-ignore"}
    assert len({record.id for record in records}) == len(records) == 26
    uncertain = [record for record in records if "atelectasis" not in record.labels]
    assert {record.published_split for record in uncertain} == {"train"}
    with pytest.raises(FedkimError, match="did you mean 'train-ones'"):
        chexpert.read(root, Reading(version="train-one"))


def test_a_check_tells_counts_and_passes(root):
    findings = chexpert.check(root)
    assert findings.errors == []
    told = {(f.file, f.field): (f.found, f.expected.split()[0]) for f in findings if f.code == "W-COUNT"}
    assert told["valid.csv", "rows"] == ("13", "234")
    assert told["valid.csv", "patients"] == ("10", "200")
    assert told["train.csv", "rows"] == ("13", "223,414")


def test_a_copy_of_valid_alone_is_whole(tmp_path):
    findings = chexpert.check(write(tmp_path))
    assert findings.errors == []
    assert "I-PART" in [finding.code for finding in findings]


@pytest.mark.parametrize("named", ["", "chexpertchestxrays-u20210408", "tables"])
def test_a_copy_as_aimi_delivers_it_is_read_from_any_of_its_folders(tmp_path, root, named):
    tables = writer.deliver(write(tmp_path, train=True))
    given = tables if named == "tables" else tmp_path / named
    plain, delivered = (chexpert.read(copy, Reading(version="train-best")) for copy in (root, given))
    assert [record.id for record in delivered] == [record.id for record in plain]
    assert all(record.inputs[0].path.is_file() for record in delivered)
    assert chexpert.check(given).errors == []
    assert "I-PART" not in [finding.code for finding in chexpert.check(given)]


def test_the_first_batch_alone_is_enough_for_valid_and_says_what_train_needs(tmp_path):
    tables = writer.deliver(write(tmp_path, train=True))
    (tmp_path / "alone").mkdir()
    alone = tables.rename(tmp_path / "alone" / tables.name)
    for given in (alone, alone.parent):
        findings = chexpert.check(given)
        assert findings.errors == []
        assert [finding.file for finding in findings if finding.code == "I-PART"] == ["train.csv"]
        assert len(chexpert.read(given, Reading())) == 13
        with pytest.raises(FedkimError, match="batches train 1 to 3") as caught:
            chexpert.read(given, Reading(version="train-ones"))
        assert caught.value.code == "E-FILE-MISSING"


def test_a_batch_that_lacks_is_told_as_missing_pictures(tmp_path):
    tables = writer.deliver(write(tmp_path, train=True))
    (tables.parent / "CheXpert-v1.0 batch 3 (train 2)").rename(tmp_path / "elsewhere")
    (finding,) = chexpert.check(tmp_path).errors
    assert (finding.code, finding.file) == ("E-FILE-MISSING", "train.csv")


@pytest.mark.parametrize(
    ("damage", "code", "readable"),
    [
        ("no column", "E-COLUMN", False),
        ("uncertain in valid", "E-VALUE", False),
        ("missing picture", "E-FILE-MISSING", False),
        ("foreign path", "E-VALUE", False),
        ("shared patient", "E-PATIENT-IN-TWO-SPLITS", True),
        ("repeated row", "E-DUPLICATE", True),
    ],
)
def test_each_damage_is_found(tmp_path, damage, code, readable):
    root = write(tmp_path, damage=damage)
    assert code in [finding.code for finding in chexpert.check(root).errors]
    if not readable:
        with pytest.raises(FedkimError) as caught:
            chexpert.read(root, Reading())
        assert caught.value.code == code
        assert "secret" not in str(caught.value)
        assert "64541" not in str(caught.value)
