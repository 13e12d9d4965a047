import json
import shutil
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import fedkim
from fedkim.coordinator.status import status_of, status_text
from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.evaluation.answers import score
from fedkim.extraction import predict_proba
from fedkim.injection import LLMS
from fedkim.progress import Silent
from fedkim.run import federate, keep_result, pipeline, run_recipe
from fedkim.run.predictions_file import read_predictions, write_predictions
from fedkim.run.server import load_language_model, make_injector
from fedkim.run.world import build_world
from fedkim.store.files import json_lines
from fedkim.store.run_store import RunStore
from small_recipe import small

RECIPE = small("federation.rounds=2")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A complete run, scored on development patients."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, run_recipe(RECIPE, out=folder)


def forbid_training(monkeypatch):
    def never(*_):
        raise AssertionError("a model was made")

    monkeypatch.setattr(pipeline, "load_parts", never)


def test_a_result_holds_every_row_of_every_task(scored):
    _, result = scored
    rows = {task: set(entry["rows"]) for task, entry in result["metrics"].items()}
    every = {"injected", "base", "blind", "majority"}
    small_models = {"small_before", "small_after"}
    assert rows == {
        "lung_opacity": {*every, "shuffled", "simple", *small_models},
        "ecg_abnormal": {*every, "shuffled", "simple", *small_models},
        "pleural_effusion": {*every, "shuffled", "proxy"},
        "ecg_qa": {*every, "majority_per_template"},
    }
    assert result["metrics"]["pleural_effusion"]["proxy"] == "lung_opacity"


def test_a_result_says_what_it_is_of(scored):
    folder, result = scored
    info = result["run_info"]
    assert (info["method"], info["llm"], info["split"], info["test_revealed"]) == ("fedkim", "tiny", "development", 0)
    assert result["train_info"]["digest"] == RunStore(folder).latest().manifest["digest"]
    assert [entry["round"] for entry in result["train_info"]["rounds"]] == [1, 2]
    assert result["meta_info"]["synthetic"] is True
    assert sum(site["samples"] for site in result["meta_info"]["sites"].values()) > 0
    assert (folder / "report.html").stat().st_size > 10_000


def test_before_its_first_round_the_injection_touches_nothing_and_its_schedule_begins_there(tmp_path, monkeypatch):
    late = small("federation.rounds=3", "injection.first_round=3", "injection.steps_per_round=4")
    done = list(federate(late))
    assert [len(one.injection.get("loss", ())) for one in done] == [0, 0, 4]
    assert [one.state.digest() == one.aggregated.digest() for one in done] == [True, True, False]
    result = run_recipe(late, out=tmp_path / "late")
    assert result["train_info"]["digest"]
    assert [bool(entry["injection"]) for entry in result["train_info"]["rounds"]] == [False, False, True]
    monkeypatch.setattr(pipeline, "load_parts", None)  # finished: read back, not trained again
    assert run_recipe(late, out=tmp_path / "late")["train_info"]["digest"] == result["train_info"]["digest"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (("federation.rounds=2", "injection.first_round=3"), "first_round"),
        (("m3oe.experts=1", "m3oe.router_spread=1.0"), "router_spread"),
        (("m3oe.router=uniform", "m3oe.router_spread=1.0"), "router_spread"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, word):
    with pytest.raises(FedkimError, match=word):
        small(*settings)


def test_a_spread_router_tells_the_seen_tasks_apart_from_the_first_round():
    spread = next(iter(federate(small("federation.rounds=1", "m3oe.router_spread=2.0"))))
    near = next(iter(federate(small("federation.rounds=1"))))
    assert near.injection["routes"]["total_variation"] < 0.1 < 0.3 < spread.injection["routes"]["total_variation"]


def test_the_rounds_record_what_each_site_sent_and_received(scored):
    _, result = scored
    for entry in result["train_info"]["rounds"]:
        assert set(entry["sites"]) == {"site-1", "site-2"}
        for site in entry["sites"].values():
            assert site["bytes_sent"] == site["bytes_received"] > 0
            assert len(site["digest"]) == 64
        assert len(entry["injection"]["loss"]) == 2
        assert 0 <= entry["injection"]["entropy"] <= 1


def test_the_stored_predictions_are_of_development_patients_alone(scored):
    folder, _ = scored
    for named in read_predictions(folder / "predictions.json").values():
        assert {row.split for row in named.values()} == {"development"}


def test_shuffled_answers_are_the_injected_ones_in_another_order(scored):
    folder, _ = scored
    rows = read_predictions(folder / "predictions.json")["lung_opacity"]
    injected, shuffled = rows["injected"], rows["shuffled"]
    assert shuffled.samples == injected.samples
    assert sorted(shuffled.scores) == sorted(injected.scores)
    assert list(shuffled.scores) != list(injected.scores)


def test_the_blind_row_answers_everyone_alike(scored):
    folder, _ = scored
    for name in ("lung_opacity", "ecg_abnormal", "pleural_effusion"):
        assert len(set(read_predictions(folder / "predictions.json")[name]["blind"].scores)) == 1


@pytest.fixture(scope="module")
def world():
    return build_world(RECIPE)


def test_the_base_row_is_of_the_model_before_any_injection_which_sees_no_patient(scored, world):
    folder, _ = scored
    untaught = make_injector(world, load_language_model(RECIPE), blind=True)
    for name in ("lung_opacity", "ecg_abnormal", "pleural_effusion"):
        rows = read_predictions(folder / "predictions.json")[name]
        base, blind = rows["base"].scores, rows["blind"].scores
        asked = [sample for sample in world.data if sample.id == rows["base"].samples[0]]
        assert len(base) > 1
        np.testing.assert_allclose(base, score(untaught, name, asked)[0, -1], rtol=1e-5)
        assert abs(base[0] - blind[0]) > 1e-4  # who was trained without the patient has learnt all the same


def test_the_small_models_rows_are_of_the_last_aggregate_and_of_what_the_injection_made_of_it(scored, world):
    folder, _ = scored
    committed = RunStore(folder).latest()
    after = committed.namespace("state")
    states = {"small_before": after.updated(committed.namespace("aggregated")), "small_after": after}
    assert len({state.digest() for state in states.values()}) == 2
    for task in world.seen:
        for name, state in states.items():
            row = read_predictions(folder / "predictions.json")[task.name][name]
            by_id = {sample.id: sample for sample in world.data}
            samples = Dataset([by_id[sample] for sample in row.samples])
            np.testing.assert_allclose(row.probabilities, predict_proba(world.extractor(state), samples, task))


def test_predictions_come_back_from_disk_bit_for_bit(scored, tmp_path):
    folder, _ = scored
    rows = read_predictions(folder / "predictions.json")
    write_predictions(tmp_path / "again.json", rows)
    again = read_predictions(tmp_path / "again.json")
    assert again.keys() == rows.keys()
    for task, named in rows.items():
        for name, row in named.items():
            other = again[task][name]
            assert (other.samples, other.truth, other.generated) == (row.samples, row.truth, row.generated)
            if row.probabilities is not None:
                assert np.array_equal(other.probabilities, row.probabilities)


def test_damaged_predictions_are_refused_in_one_line(tmp_path):
    with pytest.raises(FedkimError, match="no such file"):
        read_predictions(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text('{"square": {"injected": {"task": 3}}}')
    with pytest.raises(FedkimError, match="unreadable"):
        read_predictions(tmp_path / "bad.json")


def test_without_names_who_is_the_same_still_shows_and_who_it_is_doesnt(scored, tmp_path):
    folder, _ = scored
    rows = read_predictions(folder / "predictions.json")
    write_predictions(tmp_path / "numbered.json", rows, keep_ids=False)
    numbered = read_predictions(tmp_path / "numbered.json")
    pairs = set()
    for task, named in rows.items():
        for name, row in named.items():
            pairs |= set(zip(row.patients, numbered[task][name].patients, strict=True))
            assert numbered[task][name].truth == row.truth
    assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    text = (tmp_path / "numbered.json").read_text()
    assert not any(f'"{old}"' in text for old, _ in pairs)


def test_a_complete_run_is_not_repeated(scored, monkeypatch):
    folder, result = scored
    forbid_training(monkeypatch)
    assert run_recipe(RECIPE, out=folder) == result


def test_another_recipe_may_not_use_the_folder(scored, monkeypatch):
    folder, _ = scored
    forbid_training(monkeypatch)
    with pytest.raises(FedkimError, match="another recipe"):
        run_recipe(small("federation.rounds=3"), out=folder)


def test_a_run_that_stopped_early_is_finished_to_the_same_result(scored, tmp_path):
    _, result = scored
    rounds = federate(RECIPE, out=tmp_path / "run")
    next(rounds)
    rounds.close()
    resumed = run_recipe(RECIPE, out=tmp_path / "run")
    assert resumed["train_info"]["digest"] == result["train_info"]["digest"]
    assert resumed["metrics"] == result["metrics"]
    assert resumed["routes"] == result["routes"]


def test_the_optimisers_moments_are_read_only_where_rounds_are_left(scored, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(scored[0], folder)
    for left in (False, True):
        if left:
            (folder / "rounds" / "round-0002.json").unlink()
        with RunStore.open(folder, RECIPE) as store:
            rounds = pipeline._begun_or_resumed(store, RECIPE, progress=Silent())
        assert (rounds.done, len(rounds.trainer.optimizer.tensors()) > 0) == (1 if left else 2, left)


def test_another_model_in_the_folder_of_the_language_model_is_told(tmp_path):
    model, folder = tmp_path / "model", tmp_path / "run"
    shutil.copytree(LLMS["tiny"].prepare(), model)
    recipe = small(f"llm.name={model}", "federation.rounds=1", "evaluation.blind=false", "evaluation.draws=100")
    result = run_recipe(recipe, out=folder)
    image = torch.zeros(1, 32, 32)
    before = fedkim.load(folder).answer(task="lung_opacity", image=image)
    (weights,), tokenizer = model.glob("*.safetensors"), model / "tokenizer.json"
    uses = (
        lambda: run_recipe(recipe, out=folder),
        lambda: fedkim.load(folder).evaluate(),
        lambda: fedkim.load(folder).answer(task="lung_opacity", image=image),
        lambda: fedkim.load(folder).export(task="lung_opacity", to=tmp_path / "export"),
    )
    for file, made_with in ((weights, "other weights"), (tokenizer, "another tokenizer")):
        content = file.read_bytes()
        swapped = content.replace(b'"<pad>"', b'"<pod>"') if file == tokenizer else content[:-20000] + bytes(20000)
        assert swapped != content
        file.write_bytes(swapped)
        for use in uses:
            with pytest.raises(FedkimError, match=rf"made with {made_with} than llm\.name stands for now"):
                use()
        file.write_bytes(content)
    assert run_recipe(recipe, out=folder) == result
    assert fedkim.load(folder).answer(task="lung_opacity", image=image) == before


def test_a_registered_model_is_known_by_its_weights_too(tmp_path, monkeypatch):
    model, folder = tmp_path / "model", tmp_path / "run"
    shutil.copytree(LLMS["tiny"].prepare(), model)
    monkeypatch.setitem(LLMS, "mine", replace(LLMS["tiny"], name="mine", prepare=lambda: model))
    recipe = small("llm.name=mine", "federation.rounds=2", "evaluation.blind=false", "evaluation.draws=100")
    rounds = federate(recipe, out=folder)
    next(rounds)
    rounds.close()
    (file,) = model.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-20000] + bytes(20000))  # another release of a package, say
    uses = (
        lambda: run_recipe(recipe, out=folder),
        lambda: fedkim.load(folder).answer(task="lung_opacity", image=torch.zeros(1, 32, 32)),
    )
    for use in uses:
        with pytest.raises(FedkimError, match=r"made with other weights than llm\.name stands for now"):
            use()


def test_a_threshold_that_was_changed_by_hand_answers_for_nobody(scored, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(scored[0], folder)
    result = json.loads((folder / "result.json").read_text())
    for value in ("abc", 7.5, True, float("inf")):
        result["metrics"]["lung_opacity"]["rows"]["injected"]["tuned"] = {"threshold": value, "source": "development"}
        (folder / "result.json").write_text(json.dumps(result))
        with pytest.raises(
            FedkimError, match=r"threshold of 'lung_opacity' in the stored result, found something else"
        ):
            fedkim.load(folder).answer(task="lung_opacity", image=torch.zeros(1, 32, 32))


def test_a_run_whose_rounds_are_gone_says_so(scored, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(scored[0], folder)
    shutil.rmtree(folder / "rounds")
    with pytest.raises(FedkimError, match="its rounds are gone: run it anew, a cell of a matrix with --keep"):
        fedkim.load(folder).answer(task="lung_opacity", image=torch.zeros(1, 32, 32))
    assert "rounds aren't kept any more" in status_text(status_of(folder))


def test_scores_of_a_stopped_run_are_given_but_dont_make_it_complete(tmp_path):
    folder = tmp_path / "run"
    recipe = small("evaluation.blind=false")
    rounds = federate(recipe, out=folder)
    next(rounds)
    rounds.close()
    result = pipeline.score_again(folder, data=None, reveal_test=False, progress=Silent())
    json.dumps(result, allow_nan=False)
    assert len(result["train_info"]["rounds"]) == 1
    assert RunStore(folder).result() is None
    assert not (folder / "predictions.json").exists()


def test_a_run_without_a_round_has_no_scores(tmp_path):
    with RunStore.open(tmp_path / "run", RECIPE):
        pass
    with pytest.raises(FedkimError, match="no committed round"):
        pipeline.score_again(tmp_path / "run", data=None, reveal_test=False, progress=Silent())


def test_each_look_at_the_test_patients_is_counted(tmp_path):
    folder = tmp_path / "run"
    recipe = small("federation.rounds=1", "evaluation.blind=false", "evaluation.shuffled=false")
    assert run_recipe(recipe, out=folder)["run_info"]["test_revealed"] == 0
    revealed = run_recipe(recipe, out=folder, reveal_test=True)
    assert (revealed["run_info"]["split"], revealed["run_info"]["test_revealed"]) == ("test", 1)
    assert "tuned" in revealed["metrics"]["lung_opacity"]["rows"]["injected"]
    again = fedkim.load(folder).evaluate(reveal_test=True)
    assert again["run_info"]["test_revealed"] == 2
    assert again["metrics"] == revealed["metrics"]
    hidden = fedkim.load(folder).evaluate()
    assert (hidden["run_info"]["split"], hidden["run_info"]["test_revealed"]) == ("development", 2)
    tuned = [one["metrics"]["lung_opacity"]["rows"]["injected"]["tuned"]["threshold"] for one in (again, hidden)]
    assert tuned[0] == tuned[1], "whatever was scored last, a yes begins at the same probability"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["split"] for e in events if e["event"] == "scored"] == ["development", "test", "test", "development"]
    anew = run_recipe(recipe, out=folder, force=True)
    assert anew["run_info"]["test_revealed"] == 2  # a new start doesn't undo having looked


def test_a_result_is_kept_under_its_recipe_method_backbone_and_seed(scored, tmp_path):
    _, result = scored
    path = keep_result(tmp_path, RECIPE, result)
    assert path == tmp_path / "smoke" / "fedkim--fedavg--seed0.json"
    assert json.loads(path.read_text()) == result


def test_another_recipes_result_is_not_written_over(scored, tmp_path):
    _, result = scored
    path = keep_result(tmp_path, RECIPE, result)
    assert keep_result(tmp_path, RECIPE, result) == path
    other = small("federation.rounds=2", "injection.learning_rate=2e-3")
    with pytest.raises(FedkimError, match="found the result of another recipe; give the run a name of its own"):
        keep_result(tmp_path, other, result)
    assert json.loads(path.read_text()) == result
    shown = {**result, "run_info": {**result["run_info"], "split": "test"}}
    with pytest.raises(FedkimError, match="scores of the development split, expected those of the test split"):
        keep_result(tmp_path, RECIPE, shown)
    older = {**result, "run_info": {**result["run_info"], "config": "[run]\nno_such_key = 1\n"}}
    path.write_text(json.dumps(older))
    with pytest.raises(FedkimError, match="the result of another version of fedkim"):
        keep_result(tmp_path, RECIPE, result)
    path.write_text("{}")
    with pytest.raises(FedkimError, match="a file that is no result"):
        keep_result(tmp_path, RECIPE, result)


@pytest.mark.parametrize(
    "method",
    [("m3oe.experts=0",), ("injection.teacher=decoder", "injection.train_encoders=false", "injection.guidance=2.0")],
)
def test_other_methods_walk_the_same_way(tmp_path, method):
    recipe = small("federation.rounds=1", "evaluation.shuffled=false", *method)
    result = run_recipe(recipe, out=tmp_path / "run")
    assert set(result["metrics"]) == {"lung_opacity", "ecg_abnormal", "pleural_effusion", "ecg_qa"}
    assert bool(result["routes"]) == (recipe.m3oe.experts > 0)


def test_a_model_that_loads_in_half_precision_leaves_data_and_first_weights_as_they_are(monkeypatch):
    """While transformers loads a model, the model's type is the whole process's default."""

    begun, built = threading.Event(), threading.Event()

    def load(recipe):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            begun.set()
            built.wait(timeout=1)
        finally:
            torch.set_default_dtype(before)
        return load_language_model(recipe)

    def build(recipe, **more):
        begun.wait(timeout=1)
        world = build_world(recipe, **more)
        built.set()
        return world

    monkeypatch.setattr("fedkim.run.pipeline.load_language_model", load)
    monkeypatch.setattr("fedkim.run.pipeline.build_world", build)
    world, injector, _ = pipeline.load_parts(small("run.dtype=bfloat16"))
    assert injector.llm.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in world.initial.values()} == {torch.float32}
    assert {tensor.dtype for sample in world.data for tensor in sample.inputs.values()} == {torch.float32}


def test_the_report_shows_what_the_sites_hold_with_small_cells_hidden(scored, tmp_path):
    from fedkim.data.smallest_cell import SMALLEST_CELL
    from fedkim.report.page import render

    _, result = scored
    told = result["meta_info"]["statistics"]
    assert set(told) == set(result["meta_info"]["sites"])
    counts = [n for site in told.values() for cells in site["tasks"].values() for n in cells["counts"].values()]
    assert all(n is None or n == 0 or n >= SMALLEST_CELL for n in counts)
    page = render(result)
    assert "What the sites hold: answers" in page
    assert page.count("<svg") > render({**result, "meta_info": {**result["meta_info"], "statistics": {}}}).count("<svg")


def test_the_models_are_gone_before_the_blind_reference_brings_its_own(tmp_path, monkeypatch):
    held, seen = [], []
    make, train = pipeline.Rounds, pipeline._train_blind

    def watched(*parts, **settings):
        rounds = make(*parts, **settings)
        held.extend(weakref.ref(part) for part in (rounds.injector, rounds.trainer))
        return rounds

    def blind(*given):
        seen.extend(one() for one in held)
        return train(*given)

    monkeypatch.setattr(pipeline, "Rounds", watched)
    monkeypatch.setattr(pipeline, "_train_blind", blind)
    run_recipe(small("federation.rounds=1"), out=tmp_path / "run")
    fedkim.load(tmp_path / "run").evaluate()
    assert seen == [None] * 6  # two parts of the run, and again with those of the evaluation


def test_a_round_is_told_once_it_is_committed(tmp_path, monkeypatch):
    def full(*_):
        raise FedkimError("run folder", found="no room")

    recipe, folder = small("federation.rounds=1"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "commit", full)
        with pytest.raises(FedkimError, match="no room"):
            list(federate(recipe, out=folder))
    list(federate(recipe, out=folder))
    told = [event["site"] for event in json_lines(folder / "events.jsonl") if event["event"] == "update"]
    assert sorted(told) == sorted(set(told))
