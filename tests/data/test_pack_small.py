"""The pack's readers on a few patients in the genuine formats, and what they say about damaged ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import wfdb
from PIL import Image
from tiny_pack import NUM_STAYS, at_the_sites, edit_csv, write_pack

from fedkim.data.registry import SOURCES
from fedkim.data.sources import folds, mitbih, nih, nih_vqa, pack, pack_questions, pack_stays, pubmedqa
from fedkim.errors import FedkimError
from fedkim.modalities import image, series, signal
from fedkim.recipe import from_dict
from fedkim.tasks import TASKS
from fedkim.tasks.pack import PACK_SEEN, PACK_UNSEEN


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDKIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def loaded(written, _cache):
    return [pack.load(pack.PackSettings(root=written, fold=fold, image_size=32)) for fold in range(folds.NUM_FOLDS)]


@pytest.fixture
def broken(written, tmp_path, monkeypatch):
    """A copy to damage, with a cache of its own."""
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(written, tmp_path / "pack"))


def refused(root: Path) -> str:
    with pytest.raises(FedkimError) as caught:
        pack.load(pack.PackSettings(root=root, image_size=32))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_task_of_the_pack_is_registered_and_asked_somewhere(loaded):
    assert {*PACK_SEEN, *PACK_UNSEEN} <= set(TASKS)
    asked = {task for dataset in loaded for sample in dataset for task in sample.labels}
    assert asked <= {*PACK_SEEN, *PACK_UNSEEN}
    assert set(PACK_SEEN) <= asked


def test_the_runs_workers_read_the_pack(written, monkeypatch):
    asked = []
    monkeypatch.setattr(pack, "load", asked.append)
    for workers in (1, 3):
        SOURCES["pack"](from_dict({}, f"data.root={written}", f"run.workers={workers}"))
    assert [settings.workers for settings in asked] == [1, 3]


def test_no_patient_is_in_two_splits_and_no_patient_is_tested_in_two_folds(loaded):
    tested: set[str] = set()
    for dataset in loaded:
        split = {}
        for sample in dataset:
            assert split.setdefault(sample.patient, sample.split) == sample.split
        test = {patient for patient, name in split.items() if name == "test"}
        assert test
        assert not test & tested
        tested |= test


def test_labels_of_unseen_tasks_exist_on_held_out_patients_alone(loaded):
    for dataset in loaded:
        for sample in dataset:
            if set(sample.labels) & set(PACK_UNSEEN):
                assert sample.split in ("development", "test")


def test_every_label_is_an_answer_its_task_allows_and_every_input_is_there(loaded):
    for sample in loaded[0]:
        for task, answer in sample.labels.items():
            answers = TASKS[task].answers
            assert answers is None or answer in answers
            assert (answers is None) == (task in sample.questions)
            assert set(TASKS[task].modalities) - {"text"} <= set(sample.inputs)


def test_polarity_pairs_contradict_each_other(loaded):
    pairs = (("ap_view", "pa_view"), ("noisy", "noise_free"), ("map_below_65", "map_stayed_above_65"))
    for first, second in pairs:
        both = [sample for sample in loaded[0] if first in sample.labels]
        assert both
        assert all({sample.labels[first], sample.labels[second]} == {"Yes", "No"} for sample in both)


def test_inputs_are_the_tensors_that_the_predict_readers_give(loaded, written):
    by_id = {sample.id: sample for sample in loaded[0]}
    film = image.read_image(written / nih.FOLDER / "images" / "00000003_001.png", 32)
    assert torch.equal(by_id["nih/00000003_001"].inputs["image"], film)
    record = signal.read_record(written / mitbih.FOLDER / "105", start_seconds=20)
    assert torch.equal(by_id["mitbih/105/002"].inputs["signal"], record)
    day = series.read_table(written / pack_stays.FOLDER / "mortality24" / "eicu_demo" / "dyn.parquet", stay=7)
    assert all(torch.equal(by_id["eicu/7/day1"].inputs[modality], day[modality]) for modality in day)
    window = next(sample for sample in loaded[0] if "aki" in sample.labels)
    source, stay, cut = window.id.split("/")
    table = written / pack_stays.FOLDER / "aki" / f"{source}_demo" / "dyn.parquet"
    read = series.read_table(table, stay=stay, until_hour=int(cut.removeprefix("aki@")))
    assert all(torch.equal(window.inputs[modality], read[modality]) for modality in read)


def test_labels_say_what_the_files_say(loaded):
    by_id = {sample.id: sample for sample in loaded[0]}
    assert by_id["nih/00000000_000"].labels["pneumonia"] == "Yes"
    assert by_id["nih/00000000_000"].groups == {"pneumonia"}
    assert by_id["nih/00000001_000"].labels["pneumonia"] == "No"
    assert by_id["mitbih/100/000"].labels["pvc"] == "Yes"  # the seventh beat
    assert by_id["mitbih/100/000"].labels["irregular_rhythm"] == "Yes"
    assert by_id["mitbih/100/001"].labels["heart_rate_above_80"] == "No"  # one beat a second
    assert by_id["eicu/10/day1"].labels == {
        "icu_mortality": "Yes",
        "lactate_above_2": "Yes",
        "map_below_65": "No",
        "map_stayed_above_65": "Yes",
    }


def test_five_sites_share_the_private_patients_and_two_lack_a_modality(loaded):
    for dataset in loaded:
        held = at_the_sites(dataset)
        patients = [{sample.patient for sample in shard} for shard in held.values()]
        assert sum(map(len, patients)) == len({sample.patient for sample in dataset.split("private")})
        assert "image" not in held["site-4"].shapes()
        assert "signal" not in held["site-5"].shapes()
        assert {"image", "signal", "vitals"} <= set(held["site-1"].shapes())


def test_loading_again_decodes_nothing_and_gives_the_same_bits(loaded, written, monkeypatch):
    def decoded(*arguments):
        raise AssertionError("decoded although it was in the cache")

    for module, name in ((image, "read_image"), (mitbih, "read"), (pack_stays, "read_hourly")):
        monkeypatch.setattr(module, name, decoded)
    again = pack.load(pack.PackSettings(root=written, image_size=32))
    for first, second in zip(loaded[0], again, strict=True):
        assert (first.id, first.split, first.labels, first.questions) == (
            second.id,
            second.split,
            second.labels,
            second.questions,
        )
        assert all(torch.equal(first.inputs[modality], second.inputs[modality]) for modality in first.inputs)


def test_stays_with_unseen_labels_only_are_never_trained_on(loaded):
    for dataset in loaded:
        days = {sample.patient for sample in dataset if "icu_mortality" in sample.labels}
        assert len(days) == sum(NUM_STAYS.values())
        others = [sample for sample in dataset if "aki" in sample.labels and sample.patient not in days]
        assert {sample.split for sample in others} <= {"development", "test"}


def test_questions_of_the_two_text_sets_never_show_the_long_answer(written):
    questions = pubmedqa.load(written)
    assert sorted(sample.split for sample in questions)[-2:] == ["test", "test"]
    assert all("It works." not in sample.questions["pubmedqa"] for sample in questions)
    assert {sample.labels["pubmedqa"] for sample in questions} == {"yes", "no", "maybe"}
    assert len(pack_questions.read(written)) == 7


def test_a_question_that_names_a_lead_is_asked_of_that_lead_alone(written):
    entries = pack_questions.read(written)
    assert pack_questions.wordings(entries, "MLII")[pack_questions.ANY_NOISE] == [
        ("28", "Are there any noises detected in lead II on this ECG?")
    ]
    assert pack_questions.wordings(entries, "V5")[pack_questions.ANY_NOISE] == [
        ("28", "Are there any noises detected in lead V5 on this ECG?")
    ]


def test_visual_answers_follow_from_the_labels():
    film = nih.Film(file="a.png", patient="nih/1", findings=frozenset({"Effusion", "Edema"}), view="PA")
    allowed = {"open/view": "PA", "open/findings": "edema, effusion", "open/count": "2"}
    for seed in range(40):
        closed, unsealed = nih_vqa.ask(film, seed)
        assert unsealed.answer == allowed[unsealed.template]
        if closed.template == "closed/view":
            assert closed.answer == ("yes" if "back" in closed.question else "no")
        else:
            assert closed.answer == ("yes" if "effusion" in closed.question or "edema" in closed.question else "no")


def test_an_image_that_is_cut_short_is_named(broken):
    path = broken / nih.FOLDER / "images" / "00000004_000.png"
    path.write_bytes(path.read_bytes()[:200])
    assert "00000004_000.png" in refused(broken)


def test_an_image_that_is_missing_is_named(broken):
    (broken / nih.FOLDER / "images" / "00000004_000.png").unlink()
    assert "00000004_000.png" in refused(broken)


def test_a_black_image_is_named(broken):
    path = broken / nih.FOLDER / "images" / "00000004_000.png"
    Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(path)
    assert "one constant grey" in refused(broken)


def test_a_table_without_the_patient_column_is_refused(broken):
    edit_csv(broken / nih.FOLDER / nih.TABLE, lambda lines: [[*lines[0][:3], "Patient", *lines[0][4:]], *lines[1:]])
    assert "no column 'Patient ID'" in refused(broken)


def test_an_image_named_twice_is_refused(broken):
    edit_csv(broken / nih.FOLDER / nih.TABLE, lambda lines: [*lines, lines[-1]])
    assert "an image named twice" in refused(broken)


def test_an_unknown_view_is_refused(broken):
    edit_csv(
        broken / nih.FOLDER / nih.TABLE, lambda lines: [lines[0], [*lines[1][:6], "LL", *lines[1][7:]], *lines[2:]]
    )
    assert "expected AP or PA" in refused(broken)


def test_a_record_without_its_annotations_is_named(broken):
    (broken / mitbih.FOLDER / "114.atr").unlink()
    assert "114.atr, found no such file" in refused(broken)


def test_a_damaged_header_is_named(broken):
    (broken / mitbih.FOLDER / "114.hea").write_text("nonsense\n")
    assert "114" in refused(broken)


def test_a_record_with_missing_samples_is_refused(broken):
    wave = np.ones((3600, 1)) * np.sin(np.arange(3600))[:, None]
    wave[5] = np.nan
    wfdb.wrsamp(
        "108", fs=360, units=["mV"], sig_name=["MLII"], p_signal=wave, fmt=["16"], write_dir=str(broken / mitbih.FOLDER)
    )
    assert "missing samples" in refused(broken)


def test_a_damaged_parquet_is_named(broken):
    path = broken / pack_stays.FOLDER / "aki" / "eicu_demo" / "dyn.parquet"
    path.write_bytes(b"PAR1" + path.read_bytes()[40:])
    assert "aki/eicu_demo/dyn.parquet" in refused(broken)


@pytest.mark.parametrize("column", ["crea", "stay_id", "time"])
def test_a_parquet_without_a_column_is_named(broken, column):
    path = broken / pack_stays.FOLDER / "mortality24" / "mimic_demo" / "dyn.parquet"
    pandas.read_parquet(path).drop(columns=column).to_parquet(path)
    assert f"no column '{column}'" in refused(broken)


def test_infinite_measurements_and_missing_hours_are_refused(broken):
    path = broken / pack_stays.FOLDER / "mortality24" / "mimic_demo" / "dyn.parquet"
    table = pandas.read_parquet(path)
    table.drop(index=4).to_parquet(path)
    assert "hours missing or twice" in refused(broken)
    table.loc[4, "hr"] = np.inf
    table.to_parquet(path)
    assert "an infinite value" in refused(broken)


def test_tables_that_speak_of_different_stays_are_refused(broken):
    path = broken / pack_stays.FOLDER / "sepsis" / "mimic_demo" / "outc.parquet"
    table = pandas.read_parquet(path)
    table[table["stay_id"] != 0].to_parquet(path)
    assert "expected the same stays" in refused(broken)


def test_missing_questions_are_named(broken):
    pack_questions.questions_file(broken).unlink()
    assert pack_questions.QUESTIONS in refused(broken)


def test_questions_without_an_answer_are_refused(broken):
    path = pack_questions.questions_file(broken)
    entries = json.loads(path.read_text())
    del entries[2]["answer"]
    path.write_text(json.dumps(entries))
    assert "entry 3" in refused(broken)


def test_disagreeing_test_ids_are_refused(broken):
    (broken / pubmedqa.FOLDER / "test_ground_truth.json").write_text(json.dumps({"0": "no"}))
    with pytest.raises(FedkimError, match="one release"):
        pubmedqa.load(broken)


def test_no_folder_a_wrong_folder_and_a_wrong_fold_are_refused(written, monkeypatch):
    monkeypatch.delenv("FEDKIM_DATA_PACK", raising=False)
    with pytest.raises(FedkimError, match="set FEDKIM_DATA_PACK"):
        pack.load(pack.PackSettings())
    with pytest.raises(FedkimError, match="no such folder"):
        pack.load(pack.PackSettings(root=written / "nowhere"))
    with pytest.raises(FedkimError, match="expected 0 to 4"):
        pack.load(pack.PackSettings(root=written, fold=5))
