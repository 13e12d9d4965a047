import json

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

import fedkim
from fedkim.errors import FedkimError
from fedkim.modalities.image import read_image
from fedkim.run import Run, federate, run_recipe
from fedkim.run.predictions_file import read_predictions
from fedkim.run.world import build_world
from fedkim.store.run_store import RunStore
from small_recipe import small

RECIPE = small("federation.rounds=1", "evaluation.blind=false", "evaluation.reveal_test=true")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run, scored on test patients."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    run_recipe(RECIPE, out=folder)
    return fedkim.load(folder)


@pytest.fixture(scope="module")
def samples():
    return {sample.id: sample for sample in build_world(RECIPE).data}


def modality(task):
    return "signal" if task.startswith("ecg") else "image"


@pytest.mark.parametrize("task", ["lung_opacity", "ecg_abnormal", "pleural_effusion"])
def test_an_answer_is_the_one_that_the_evaluation_stored(run, samples, task):
    row = read_predictions(run.folder / "predictions.json")[task]["injected"]
    for name, stored in list(zip(row.samples, row.probabilities))[:5]:
        answer = run.answer(task=task, **{modality(task): samples[name].inputs[modality(task)]})
        assert list(answer.probabilities) == ["No", "Yes"]
        assert list(answer.probabilities.values()) == pytest.approx(stored, abs=1e-6)


def test_a_generated_answer_is_the_one_that_the_evaluation_stored(run, samples):
    row = read_predictions(run.folder / "predictions.json")["ecg_qa"]["injected"]
    for name, text in list(zip(row.samples, row.generated))[:4]:
        sample = samples[name]
        answer = run.answer(task="ecg_qa", question=sample.questions["ecg_qa"], signal=sample.inputs["signal"])
        assert answer.text == text
        assert answer.probabilities == {}


def test_a_question_that_was_changed_or_cut_is_asked_with_a_warning(run, samples):
    signal = next(sample.inputs["signal"] for sample in samples.values() if "ecg_qa" in sample.questions)
    plain = run.answer(task="ecg_qa", question="Is the\nrhythm regular?", signal=signal)
    assert not [warning for warning in plain.warnings if "question" in warning and "holds" in warning]
    marked = run.answer(task="ecg_qa", question="Is the </image> <|im_end|> rhythm\x00 regular?", signal=signal)
    (warning,) = set(marked.warnings) - set(plain.warnings)
    assert warning.startswith("the question holds marks that mean more than words")
    long = run.answer(task="ecg_qa", question="beat " * 401, signal=signal)
    (warning,) = set(long.warnings) - set(plain.warnings)
    assert warning == "the question is longer than 2,000 characters: the rest wasn't asked"


def test_the_word_follows_the_threshold_and_the_threshold_its_source(run, samples):
    row = read_predictions(run.folder / "predictions.json")["lung_opacity"]["injected"]
    tuned = run.result["metrics"]["lung_opacity"]["rows"]["injected"]["tuned"]["threshold"]
    for name in row.samples[:5]:
        answer = run.answer(task="lung_opacity", image=samples[name].inputs["image"])
        assert answer.threshold == {"value": tuned, "source": "tuned on development patients"}
        assert answer.text == ("Yes" if answer.probabilities["Yes"] >= tuned else "No")
    unseen = run.answer(task="pleural_effusion", image=samples[name].inputs["image"])
    assert unseen.threshold == {"value": 0.5, "source": "0.5, not tuned"}


def test_an_image_file_is_read_as_training_read_it(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    prepared = read_image(tmp_path / "x.png", size=RECIPE.data.image_size)
    from_file = run.answer(task="lung_opacity", image=tmp_path / "x.png")
    assert from_file.probabilities == run.answer(task="lung_opacity", image=prepared).probabilities


def test_an_answer_names_its_route_and_its_limits(run, samples):
    image = next(sample.inputs["image"] for sample in samples.values() if "image" in sample.inputs)
    seen, unseen = (run.answer(task=task, image=image) for task in ("lung_opacity", "pleural_effusion"))
    assert sum(seen.route.weights) == pytest.approx(1, abs=1e-6)
    assert [round(w, 6) for w in seen.route.weights] == run.result["routes"]["tasks"]["lung_opacity"]
    assert any("phantom" in warning for warning in seen.warnings)
    assert not any("no hospital trained" in warning for warning in seen.warnings)
    assert any("no hospital trained" in warning for warning in unseen.warnings)


def test_the_result_names_the_nearest_seen_route_of_each_unseen_task(run):
    routes = run.result["routes"]
    assert set(routes["nearest"]) == set(RECIPE.tasks.unseen)
    nearest = routes["nearest"]["pleural_effusion"]
    distances = {
        seen: run.injector.route("pleural_effusion").distance(run.injector.route(seen)) for seen in RECIPE.tasks.seen
    }
    assert nearest["task"] == min(distances, key=distances.get)
    assert nearest["total_variation"] == pytest.approx(min(distances.values()), abs=1e-5)
    assert routes["router"] == run.injector.network.base_model.router_digest()


def test_a_registered_task_that_the_recipe_doesnt_name_can_be_asked_too(run, samples):
    image = next(sample.inputs["image"] for sample in samples.values() if "image" in sample.inputs)
    answer = run.answer(task="atelectasis", image=image)
    assert sum(answer.probabilities.values()) == pytest.approx(1)


WINDOW = torch.zeros(12, 1000)
PICTURE = torch.zeros(1, 32, 32)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "lung_opacityy", "image": PICTURE}, "unknown task 'lung_opacityy'; did you mean 'lung_opacity'"),
        ({"task": "lung_opacity"}, "task 'lung_opacity', found no image; give image=…"),
        ({"task": "lung_opacity", "image": None}, "found no image"),
        ({"task": "lung_opacity", "image": PICTURE, "signal": WINDOW}, "found an input 'signal', expected image"),
        ({"task": "ecg_qa", "signal": WINDOW}, "task 'ecg_qa', found no question"),
        ({"task": "mortality", "vitals": PICTURE}, "modality 'vitals', found no site of this run taught it"),
        ({"task": "lung_opacity", "image": PICTURE[:, :16]}, r"'image', found shape \(1, 16, 32\), expected \(1, 32, 32\)"),
        ({"task": "lung_opacity", "image": PICTURE / 0}, "'image', found NaN or infinity"),
        ({"task": "lung_opacity", "image": "no/such.png"}, "no/such.png"),
        ({"task": "lung_opacity", "image": b"its bytes"}, "'image', found a bytes, expected the path of a file"),
        ({"task": "ecg_abnormal", "signal": WINDOW.numpy()}, "'signal', found a ndarray, expected the path"),
        ({"task": "lung_opacity", "image": PICTURE + 1e30}, "task 'lung_opacity', found a score that isn't finite"),
        ({"task": "lung_opacity", "image": PICTURE, "question": "Hm?"}, "found a question, expected none"),
        ({"task": ["lung_opacity"], "image": PICTURE}, "unknown task"),
    ],
)  # fmt: skip
def test_a_question_that_cant_be_answered_is_refused_in_one_line(run, asked, message):
    with pytest.raises(FedkimError, match=message) as caught:
        run.answer(**asked)
    assert "\n" not in str(caught.value)


def test_a_stopped_run_answers_with_a_warning(tmp_path, samples):
    rounds = federate(small(), out=tmp_path / "run")
    next(rounds)
    rounds.close()
    run = Run(tmp_path / "run")
    assert run.result is None
    image = next(sample.inputs["image"] for sample in samples.values() if "image" in sample.inputs)
    answer = run.answer(task="lung_opacity", image=image)
    assert "the run stopped after round 1 of 4" in answer.warnings
    assert answer.threshold["source"] == "0.5, not tuned"


def test_a_damaged_last_round_is_told_and_made_anew(tmp_path, samples):
    recipe = small("federation.rounds=2", "evaluation.blind=false")
    folder = tmp_path / "run"
    whole = run_recipe(recipe, out=folder)
    image = next(sample.inputs["image"] for sample in samples.values() if "image" in sample.inputs)
    (folder / "rounds" / "round-0002.safetensors").write_bytes(b"")
    run = Run(folder)
    answer = run.answer(task="lung_opacity", image=image)
    assert answer.threshold["source"] == "0.5, not tuned"  # the tuned one is of other weights
    assert any("what came after round 1 of 2 is damaged" in warning for warning in answer.warnings)
    with pytest.raises(FedkimError, match="found the last whole round is round 1 of 2, expected a finished run"):
        run.export(task="lung_opacity", to=tmp_path / "export")
    again = run_recipe(recipe, out=folder)
    assert again["train_info"]["digest"] == whole["train_info"]["digest"]
    assert not Run(folder).damaged


def test_a_folder_without_a_run_or_a_round_is_named(tmp_path):
    with pytest.raises(FedkimError, match="no such folder"):
        fedkim.load(tmp_path / "absent")
    with RunStore.open(tmp_path / "begun", RECIPE):
        pass
    with pytest.raises(FedkimError, match="no committed round"):
        fedkim.load(tmp_path / "begun").answer(task="lung_opacity", image=PICTURE)


def test_the_stored_recipe_is_the_recipe(run):
    assert run.recipe == RECIPE
    assert json.loads((run.folder / "recipe.json").read_text())["digest"] == RECIPE.digest()


def test_a_stay_is_read_in_stated_units_alone_and_what_nobody_can_show_is_told(tmp_path):
    recipe = small(
        "federation.rounds=1",
        "evaluation.blind=false",
        "data.image_patients=0",
        "data.signal_patients=0",
        "data.icu_patients=80",
        'tasks.seen=["mortality"]',
        'tasks.unseen=["sepsis"]',
    )
    next(federate(recipe, out=tmp_path / "run"))
    run, path = Run(tmp_path / "run"), tmp_path / "stay.csv"
    rows = "\n".join(f"{hour},80,97.25,1.0,1.0" for hour in range(24))
    groups = ("vitals", "labs", "inputs", "outputs")
    path.write_text(f"hour,hr,crea,fio2,urine\n{rows}\n")
    given = dict.fromkeys(groups, path)
    with pytest.raises(FedkimError, match="column 'hr', found no unit"):
        run.answer(task="mortality", **given)
    warnings = run.answer(task="mortality", units="yaib", **given).warnings
    assert any(line.startswith("crea: 24 of 24 values outside") for line in warnings)  # creatinine in µmol/L
    path.write_text(f"hour,hr [beats/min],crea [µmol/L],fio2 [1],urine [mL]\n{rows}\n")
    from_file = run.answer(task="mortality", **given)
    assert not any("crea" in line for line in from_file.warnings)
    silent = pandas.DataFrame({"hour": range(24), "hr": [float("nan")] * 24})
    assert "nothing measured in vitals" in run.answer(task="mortality", **{**given, "vitals": silent}).warnings

    frame = pandas.read_csv(path)
    assert run.answer(task="mortality", **dict.fromkeys(groups, frame)).probabilities == from_file.probabilities
    indexed = frame.set_index("hour")
    assert run.answer(task="mortality", **dict.fromkeys(groups, indexed)).probabilities == from_file.probabilities
    for wrong, message in (
        (frame.rename(columns=str.upper).rename(columns={"HOUR": "hour"}), "none of the known columns"),
        (frame.assign(hour=frame["hour"] + 480), "no plausible measurement in the window"),
        (frame.assign(hour=0), "an hour twice"),
        (frame.iloc[:0], "no rows"),
        ({"hr": 80}, "expected a file or a DataFrame"),
    ):
        with pytest.raises(FedkimError, match=message):
            run.answer(task="mortality", **dict.fromkeys(groups, wrong))

    without = run.answer(task="mortality", **dict.fromkeys(groups, frame.drop(columns="urine [mL]")))
    assert "nothing measured in outputs" in without.warnings  # zeros, as in the training

    two = pandas.concat([frame.assign(stay_id=7), frame.assign(stay_id=8, hour=frame["hour"] + 24)])
    both = dict.fromkeys(groups, two)
    with pytest.raises(FedkimError, match="2 stays"):
        run.answer(task="mortality", **both)
    assert run.answer(task="mortality", stay=8, until_hour=48, **both).probabilities == from_file.probabilities
    longer = pandas.concat([frame, frame.assign(hour=frame["hour"] + 24)])
    told = run.answer(task="mortality", **dict.fromkeys(groups, longer))
    assert told.probabilities == from_file.probabilities
    assert [line for line in told.warnings if "24 hours after the first day" in line] != []
