"""COVID-19 Radiography: labels by folder, source by the spreadsheet, and the shortcut between them told."""

import pytest

from fedkim.data.public_sets import PUBLIC_SETS, Reading
from fedkim.data.sources import covid
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS
from fixtures.writers import covid as writer


def write(root, damage="", **options):
    return writer.write(root, damage, **({"num_patients": 10} | options))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("covid"))


@pytest.mark.parametrize("labels", ["fixed", "paper"])
def test_covid_answers_yes_normal_no_and_the_other_classes_nothing(root, labels):
    records = covid.read(root, Reading(labels=labels))
    answers = [(record.strata["class"], record.labels["covid"]) for record in records]
    assert sorted(set(answers)) == [("COVID", "Yes"), ("Normal", "No")]
    assert len(records) == 20
    assert set(PUBLIC_SETS["covid"].tasks) <= set(TASKS)


def test_the_site_is_the_source_whatever_the_letters_case_in_the_spreadsheet(root):
    records = {record.id: record for record in covid.read(root, Reading())}
    assert records["covid/COVID-3"].site == "bimcv"
    assert records["covid/Normal-2"].site == "kaggle-children"
    assert records["covid/Normal-3"].strata["source"] == "covid/rsna"
    assert all(record.site for record in records.values())


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data", "rsna"),
        ("https://sirm.org/category/covid-19/", "sirm"),
        ("https://www.eurorad.org/case/16660", "eurorad"),
        ("https://github.com/armiro/COVID-CXNet", "covid-cxnet"),
        ("https://www.somewhere.org/x", "somewhere.org"),
        ("somewhere.org/x", "somewhere.org"),
        ("", ""),
    ],
)
def test_a_url_becomes_the_name_of_its_source(url, site):
    assert covid.source_of(url) == site


def test_pictures_come_in_the_order_of_their_numbers_and_can_be_decoded(root):
    records = covid.read(root, Reading(image_size=32))
    assert [record.id for record in records[:10]] == [f"covid/COVID-{number}" for number in range(1, 11)]
    (given,) = records[0].inputs
    assert given.read(given.path, **given.settings)["image"].shape == (1, 32, 32)


def test_an_ending_in_capitals_is_as_good(tmp_path):
    copy = write(tmp_path / "capitals")
    folder = next(copy.rglob("COVID-1.png")).parent
    (folder / "COVID-1.png").rename(folder / "COVID-1.PNG")
    records = [record for record in covid.read(copy, Reading()) if record.id == "covid/COVID-1"]
    assert [record.inputs[0].path.is_file() for record in records] == [True]


def test_a_root_may_be_the_folder_itself_or_the_one_around_it(root):
    inner = covid.read(root / "COVID-19_Radiography_Dataset", Reading())
    assert [record.id for record in inner] == [record.id for record in covid.read(root, Reading())]


def test_pictures_may_lie_in_the_folder_of_their_class_as_in_version_4(root, tmp_path):
    for kind in ("COVID", "Normal"):
        (tmp_path / kind).mkdir()
        for path in (root / "COVID-19_Radiography_Dataset" / kind / "images").iterdir():
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    assert len(covid.read(tmp_path, Reading())) == 20


def test_a_check_tells_counts_and_that_the_source_gives_the_answer_away(root):
    findings = covid.check(root)
    assert findings.errors == []
    told = {finding.code: finding for finding in findings}
    assert told["W-SHORTCUT"].found == "5 of 5 sources with pictures of one class alone"
    counts = [finding for finding in findings if finding.code == "W-COUNT"]
    assert [(count.found, count.expected.split()[0]) for count in counts] == [
        ("10", "3,616"), ("10", "10,192"), ("2", "6,012"), ("2", "1,345"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "code", "readable"),
    [
        ("no class", "E-FILE-MISSING", False),
        ("no column", "E-COLUMN", False),
        ("no spreadsheets", "E-TABLE", False),
        ("no spreadsheet at all", "W-SITE", True),
        ("missing rows", "W-SITE", True),
    ],
)
def test_each_damage_is_found(tmp_path, damage, code, readable):
    root = write(tmp_path, damage=damage)
    assert code in [finding.code for finding in covid.check(root)]
    if readable:
        assert not all(record.site for record in covid.read(root, Reading()))
        return
    with pytest.raises(FedkimError) as caught:
        covid.read(root, Reading())
    assert caught.value.code == code
