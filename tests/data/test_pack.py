"""The real pack: counts against what its sources publish, splits, matching, and that inputs carry their labels."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_pack import at_the_sites

from fedkim.data.sources import folds, mitbih, nih, pack, pack_questions, pack_stays, pubmedqa
from fedkim.modalities import image, series, signal
from fedkim.tasks.pack import PACK_SEEN, PACK_UNSEEN

pytestmark = pytest.mark.data_pack

PVC = {"100": 1, "102": 4, "104": 2, "105": 39, "108": 17, "114": 34, "119": 159, "123": 3, "200": 166}


@pytest.fixture(scope="module")
def datasets(data_pack, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDKIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield [pack.load(pack.PackSettings(root=data_pack, fold=fold)) for fold in range(folds.NUM_FOLDS)]


def positive(dataset, task):
    return sum(sample.labels.get(task) == "Yes" for sample in dataset)


def test_films_count_as_published(datasets, data_pack):
    films = nih.read_table(data_pack)
    assert len(films) == 1000
    assert len({film.patient for film in films}) == 682
    assert Counter(film.view for film in films) == {"AP": 567, "PA": 433}
    counts = Counter(finding for film in films for finding in film.findings)
    assert (counts["Effusion"], counts["Atelectasis"], counts["Edema"]) == (90, 113, 96)
    for dataset in datasets:
        assert len(dataset.labelled("pneumonia")) == 1000
        assert (positive(dataset, "pneumonia"), positive(dataset, "infiltration")) == (500, 187)
        assert (positive(dataset, "ap_view"), positive(dataset, "pa_view")) == (567, 433)


def test_ecg_windows_count_as_published(datasets):
    for dataset in datasets:
        windows = dataset.labelled("pvc")
        assert len(windows) == 1620
        by_record = Counter(s.strata["record"] for s in windows if s.labels["pvc"] == "Yes")
        assert by_record == PVC
        assert by_record.total() == 425
        assert len(dataset.labelled("noisy")) == 1620
        assert positive(dataset, "noisy") == 810


def test_stays_count_as_published(datasets):
    for dataset in datasets:
        days = dataset.labelled("icu_mortality")
        assert Counter(s.site for s in days) == {"mimic": 99, "eicu": 1367}
        assert Counter(s.site for s in days if s.labels["icu_mortality"] == "Yes") == {"mimic": 21, "eicu": 70}
        assert (len(dataset.labelled("lactate_above_2")), positive(dataset, "lactate_above_2")) == (401, 167)
        assert (len(dataset.labelled("map_below_65")), positive(dataset, "map_below_65")) == (1429, 796)


def test_courses_count_as_published(data_pack):
    aki, sepsis = (pack_stays.read_courses(data_pack, task) for task in ("aki", "sepsis"))
    assert (len(aki), sum(course.onset is not None for course in aki.values())) == (2101, 742)
    assert (len(sepsis), sum(course.onset is not None for course in sepsis.values())) == (1011, 64)
    assert len(set(aki) & set(pack_stays.read_deaths(data_pack))) == 1261


def test_text_sets_count_as_published(data_pack):
    questions = pubmedqa.load(data_pack)
    assert Counter(s.labels["pubmedqa"] for s in questions) == {"yes": 552, "no": 338, "maybe": 110}
    assert Counter(s.labels["pubmedqa"] for s in questions.split("test")) == {"yes": 276, "no": 169, "maybe": 55}
    asked = pack_questions.read(data_pack)
    assert Counter(", ".join(entry["answer"]) for entry in asked) == {"no": 6927, "yes": 3073}
    assert len({entry["ecg_id"][0] for entry in asked}) == 4774


def test_no_patient_is_in_two_splits_of_any_fold_or_tested_twice(datasets):
    tested: set[str] = set()
    for dataset in datasets:
        split: dict[str, str] = {}
        for sample in dataset:
            assert split.setdefault(sample.patient, sample.split) == sample.split
        test = {patient for patient, name in split.items() if name == "test"}
        assert not test & tested
        tested |= test


def test_identical_films_are_never_divided(datasets):
    for dataset in datasets:
        twins = [s for s in dataset if s.id in ("nih/00002658_001", "nih/00002658_002")]
        assert len({s.split for s in twins}) == 1
        assert torch.equal(twins[0].inputs["image"], twins[1].inputs["image"])


def test_unseen_labels_stay_with_development_and_test(datasets):
    for dataset in datasets:
        for sample in dataset:
            if sample.split in ("private", "public"):
                assert not set(sample.labels) & set(PACK_UNSEEN)


def test_private_and_public_hold_both_answers_to_every_seen_task(datasets):
    for dataset in datasets:
        for split in ("private", "public"):
            part = dataset.split(split)
            for task in PACK_SEEN:
                answers = Counter(sample.labels[task] for sample in part if task in sample.labels)
                assert min(answers["Yes"], answers["No"]) >= 9, (task, split)


def test_each_split_has_its_share_of_the_positives(datasets):
    for dataset in datasets:
        for split in ("public", "development", "test"):
            part = dataset.split(split)
            assert 8 <= positive(part, "icu_mortality") <= 11
            assert 35 <= positive(part, "pneumonia") <= 65


@pytest.mark.parametrize(("task", "controls", "fewest"), [("aki", 1, 600), ("sepsis", 5, 50)])
def test_matched_windows_give_nothing_away_by_their_length(datasets, task, controls, fewest):
    everyone = {}
    for dataset in datasets:
        for split in ("development", "test"):
            part = dataset.split(split).labelled(task)
            cases = [sample.labels[task] == "Yes" for sample in part]
            hours = [int(sample.id.split("@")[1]) for sample in part]
            assert roc_auc_score(cases, hours) == pytest.approx(0.5)
            empty = [int((~sample.inputs["vitals"].bool().any(1)).sum()) for sample in part]
            assert 0.4 < roc_auc_score(cases, empty) < 0.6
            assert len(cases) == (1 + controls) * sum(cases)
            sources = Counter((sample.site, case) for sample, case in zip(part, cases))
            assert all(sources[site, False] == controls * sources[site, True] for site in ("mimic", "eicu"))
            everyone.update({sample.id: case for sample, case in zip(part, cases)})
    assert sum(everyone.values()) >= fewest


def test_a_window_does_not_hold_the_hour_of_onset(datasets, data_pack):
    courses = pack_stays.read_courses(data_pack, "aki")
    for sample in datasets[0].labelled("aki"):
        if sample.labels["aki"] == "Yes":
            assert int(sample.id.split("@")[1]) == courses[sample.patient].onset


def test_inputs_are_what_the_predict_readers_give(datasets, data_pack):
    by_id = {sample.id: sample for sample in datasets[0]}
    film = image.read_image(data_pack / nih.FOLDER / "images" / "00000061_012.png")
    assert torch.equal(by_id["nih/00000061_012"].inputs["image"], film)
    for name, window in (("200", 17), ("114", 179)):
        wave = signal.read_record(data_pack / mitbih.FOLDER / name, start_seconds=10 * window)
        assert torch.equal(by_id[f"mitbih/{name}/{window:03d}"].inputs["signal"], wave)
    for task, hour in (("icu_mortality", None), ("aki", "aki@"), ("sepsis", "sepsis@")):
        sample = datasets[0].labelled(task).samples[0]
        source, stay, cut = sample.id.split("/")
        folder = "mortality24" if hour is None else task
        read = series.read_table(
            data_pack / pack_stays.FOLDER / folder / f"{source}_demo" / "dyn.parquet",
            stay=stay,
            until_hour=None if hour is None else int(cut.removeprefix(hour)),
        )
        assert set(read) == set(sample.inputs)
        assert all(torch.equal(sample.inputs[modality], read[modality]) for modality in read)


def test_inputs_are_finite_and_of_the_canonical_shapes(datasets):
    shapes = {"image": (1, 64, 64), "signal": (1, 1000)}
    shapes |= {"vitals": (24, 14), "labs": (24, 78), "inputs": (24, 2), "outputs": (24, 2)}
    assert datasets[0].shapes() == shapes
    for sample in datasets[0]:
        for modality, tensor in sample.inputs.items():
            assert tensor.shape == shapes[modality]
            assert tensor.dtype == torch.float32
            assert torch.isfinite(tensor).all()


def test_yes_and_no_about_noise_come_in_equal_numbers_and_fit_what_was_added(datasets):
    for dataset in datasets:
        part = dataset.split("test").labelled("ecg_noise_qa")
        assert Counter(sample.labels["ecg_noise_qa"] for sample in part) == {"yes": 90, "no": 90}
        for sample in part:
            asked, added = sample.questions["ecg_noise_qa"], sample.strata.get("noise", "")
            named = next((kind for kind in pack.pack_signal.noise.KINDS if kind in asked), None)
            holds = bool(added) if named is None else added == named
            assert holds == (sample.labels["ecg_noise_qa"] == "yes")


def test_five_sites_hold_all_private_patients_and_each_lacks_what_it_should(datasets):
    for dataset in datasets:
        held = at_the_sites(dataset)
        assert sum(map(len, held.values())) == len(dataset.split("private"))
        lacking = {site for site, part in held.items() if "image" not in part.shapes()}
        silent = {site for site, part in held.items() if "signal" not in part.shapes()}
        assert (lacking, silent) == ({"site-4"}, {"site-5"})


def features(sample, task):
    if "image" in sample.inputs:
        return torch.nn.functional.adaptive_avg_pool2d(sample.inputs["image"], 16).flatten().numpy()
    groups = [sample.inputs[modality].numpy() for modality in ("vitals", "labs", "inputs", "outputs")]
    return np.concatenate([np.concatenate([x[-1], x.mean(0), x.min(0), x.max(0)]) for x in groups])


@pytest.mark.parametrize(
    ("task", "strength", "low", "high"),
    [
        ("pneumonia", 1e-3, 0.80, 0.93),
        ("ap_view", 1e-3, 0.85, 1.0),
        ("icu_mortality", 1e-2, 0.68, 0.88),
        ("lactate_above_2", 1e-2, 0.85, 1.0),
        ("map_below_65", 1e-2, 0.90, 1.0),
    ],
)
def test_a_logistic_regression_finds_the_label_in_the_input(datasets, task, strength, low, high):
    answers, scores = [], []
    for dataset in datasets:
        train = [s for s in dataset if s.split in ("private", "public") and task in s.labels]
        test = dataset.split("test").labelled(task).samples
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=300, class_weight="balanced")
        ).fit(np.stack([features(s, task) for s in train]), [s.labels[task] == "Yes" for s in train])
        answers += [s.labels[task] == "Yes" for s in test]
        scores += list(model.decision_function(np.stack([features(s, task) for s in test])))
    assert low < roc_auc_score(answers, scores) < high


def test_kidney_injury_is_weakly_foretold_and_not_given_away(datasets):
    windows = {sample.id: sample for dataset in datasets for sample in dataset.labelled("aki")}
    train = [sample for sample in windows.values() if int(sample.patient.split("/")[1]) % 2]
    test = [sample for sample in windows.values() if not int(sample.patient.split("/")[1]) % 2]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=300))
    model.fit(np.stack([features(s, "aki") for s in train]), [s.labels["aki"] == "Yes" for s in train])
    scores = model.decision_function(np.stack([features(s, "aki") for s in test]))
    assert 0.55 < roc_auc_score([s.labels["aki"] == "Yes" for s in test], scores) < 0.75
