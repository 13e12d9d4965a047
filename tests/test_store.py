import json
import os
import random
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fedkim.errors import FedkimError
from fedkim.recipe import Recipe, digest_of, from_dict
from fedkim.state import State
from fedkim.store import files as files_module
from fedkim.store.environment import environment
from fedkim.store.events import FIELDS
from fedkim.store.files import canonical, plain, text_digest, write_text
from fedkim.store.run_store import RunStore

RECIPE = Recipe()


def tensors_of(number):
    generator = torch.Generator().manual_seed(number)
    return {
        "state.encoder.image.weight": torch.randn(3, 4, generator=generator),
        "injector.adapter.A": torch.randn(5, generator=generator).to(torch.bfloat16),
        "optimizer.step": torch.tensor(number),
    }


def committed(folder, rounds):
    with RunStore.open(folder, RECIPE) as store:
        for number in rounds:
            store.commit(number, tensors_of(number), {"metrics": {"loss": 1 / number}})
    return RunStore(folder)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "mine"


# what was committed comes back ----------------------------------------------------------------------------------


def test_a_recipe_that_was_changed_is_refused_and_one_of_an_earlier_version_is_not(folder):
    committed(folder, [1])
    path = folder / "recipe.json"
    record = json.loads(path.read_text())
    moved = {**record["recipe"], "data": {**record["recipe"]["data"], "root": "/elsewhere"}}
    path.write_text(json.dumps({**record, "recipe": moved}))  # decides no number
    assert RunStore(folder).recipe().data.root == "/elsewhere"
    for table, key, value in (("m3oe", "alpha", 77.0), ("tasks", "seen", ["covid"]), ("data", "image_size", 48)):
        tables = {**record["recipe"], table: {**record["recipe"][table], key: value}}
        path.write_text(json.dumps({**record, "recipe": tables}))
        for read in (lambda: RunStore(folder).recipe(), lambda: RunStore(folder).latest()):
            with pytest.raises(
                FedkimError, match=r"other settings than when it was written.*put the file back as it was"
            ):
                read()
    for odd in ({"m3oe": "x"}, {"data": {**record["recipe"]["data"], "roots": 5}}):
        path.write_text(json.dumps({**record, "recipe": {**record["recipe"], **odd}}))
        with pytest.raises(FedkimError, match="other settings"):
            RunStore(folder).recipe()
    before = {name: dict(table) for name, table in record["recipe"].items()}
    del before["m3oe"]["router_spread"], before["injection"]["evidence"], before["run"]["share_extraction"]
    path.write_text(json.dumps({"digest": digest_of(before), "recipe": before}))  # as written before these came
    assert RunStore(folder).recipe() == RECIPE
    assert digest_of(before) != RECIPE.digest() == digest_of(record["recipe"])


def test_a_new_folder_has_no_round(folder):
    with RunStore.open(folder, RECIPE) as store:
        assert store.latest() is None
        assert store.result() is None


def test_what_was_committed_comes_back_bit_for_bit_with_its_manifest(folder):
    latest = committed(folder, [1, 2]).latest()
    assert latest.round == 2
    assert latest.tensors.digest() == State(tensors_of(2)).digest()
    assert latest.manifest["metrics"] == {"loss": 0.5}
    assert latest.manifest["recipe"] == RECIPE.digest()
    assert latest.namespace("state").digest() == State(State(tensors_of(2)).below("state")).digest()


def test_each_manifest_names_its_parent(folder):
    store = committed(folder, [1, 2, 3])
    manifests = [json.loads((store.rounds / f"round-000{n}.json").read_text()) for n in (1, 2, 3)]
    assert manifests[0]["parent"] is None
    assert [m["parent"] for m in manifests[1:]] == [m["sha256"] for m in manifests[:-1]]


def test_the_last_three_rounds_are_kept(folder):
    store = committed(folder, range(1, 7))
    assert store.committed_rounds() == [4, 5, 6]
    assert len(list(store.rounds.iterdir())) == 6


def test_views_of_one_storage_and_twins_are_written_each_on_its_own(folder):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a.row": base[0], "a.column": base[:, 1], "a.all": base, "a.twin": base}
    with RunStore.open(folder, RECIPE) as store:
        store.commit(1, tensors)
        assert store.latest().tensors.digest() == State(tensors).digest()


def test_equal_tensors_make_equal_files(folder, tmp_path):
    names = [committed(path, [1]).rounds / "round-0001.safetensors" for path in (folder, tmp_path / "other")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_numbers_without_a_json_form_become_null():
    assert plain({1: (float("nan"), torch.tensor(2.5), float("-inf"))}) == {"1": [None, 2.5, None]}
    with pytest.raises(TypeError, match="no JSON form for set"):
        plain({"a": {1}})


def test_a_result_is_read_back_and_never_half_written(folder, monkeypatch):
    about = dict.fromkeys(("recipe", "method", "backbone", "llm", "split", "config"), "some")
    result = {"run_info": {**about, "seed": 0, "environment": {}}, "train_info": {}, "metrics": {}, "meta_info": {}}
    with RunStore.open(folder, RECIPE) as store:
        store.write_result({**result, "meta_info": {"auroc": float("nan")}}, Path.touch)
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(FedkimError, match=r"writing .*result\.json, found Input/output error"):
            store.write_result(result, Path.touch)
    assert RunStore(folder).result() == {**result, "meta_info": {"auroc": None}}
    assert not list(folder.glob(".tmp-*"))
    lacking = [{name: part for name, part in result.items() if name != left_out} for left_out in result]
    lacking += [{**result, "run_info": {**result["run_info"], key: None}} for key in (*about, "environment")]
    for wrong in (*lacking, {**result, "metrics": {"covid": None}}, {**result, "metrics": {"covid": {}}}):
        (folder / "result.json").write_text(json.dumps(wrong))
        with pytest.raises(FedkimError, match="expected a stored result"):
            RunStore(folder).result()


def test_a_result_and_its_predictions_are_replaced_together_or_the_run_has_none(folder, monkeypatch):
    about = dict.fromkeys(("recipe", "method", "backbone", "llm", "split", "config"), "some")
    result = {"run_info": {**about, "seed": 0, "environment": {}}, "train_info": {}, "metrics": {}, "meta_info": {}}
    predictions = folder / "predictions.json"
    with RunStore.open(folder, RECIPE) as store:
        store.write_result(result, lambda path: path.write_text("old"))

        def full(path):
            path.write_text("ne")
            raise OSError(28, "No space left on device")

        with pytest.raises(FedkimError, match="no room"):
            store.write_result({**result, "routes": {}}, full)
        assert (store.result(), predictions.read_text()) == (result, "old")
        assert not list(folder.glob(".tmp-*"))

        replace, renamed = os.replace, []

        def cut_off(source, target):
            replace(source, target)
            if Path(target) == predictions:
                renamed.append(target)
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.write_result({**result, "routes": {}}, lambda path: path.write_text("new"))
        assert renamed
        assert (store.result(), predictions.read_text()) == (None, "new")


# damage ---------------------------------------------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(data)


DAMAGE = {
    "bit-flip": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", [*DAMAGE, "manifest"])
def test_a_damaged_newest_round_is_passed_over_and_said_so(folder, kind):
    store = committed(folder, [1, 2, 3])
    if kind == "manifest":
        path = store.rounds / "round-0003.json"
        path.write_text(path.read_text().replace('"loss": 0.3', '"loss": 0.9'))
    else:
        DAMAGE[kind](store.rounds / "round-0003.safetensors")
    with RunStore.open(folder, RECIPE) as again:
        latest = again.latest()
        assert latest.round == 2
        assert latest.tensors.digest() == State(tensors_of(2)).digest()
        event = list(again.events)[-1]
        assert (event["event"], event["round"]) == ("damaged-round", 3)
        again.commit(3, tensors_of(3))
        assert again.latest().round == 3


@pytest.mark.parametrize("kind", ["bit-flip", "truncated", "empty", "garbage"])
def test_a_damaged_manifest_of_the_newest_round_is_passed_over(folder, kind):
    store = committed(folder, [1, 2])
    DAMAGE[kind](store.rounds / "round-0002.json")
    assert store.latest().round == 1


def test_where_every_round_is_damaged_nothing_is_resumed_and_nothing_deleted(folder):
    store = committed(folder, [1, 2, 3])
    for path in store.rounds.glob("*.safetensors"):
        flip(path)
    before = {path.name: path.read_bytes() for path in store.rounds.iterdir()}
    with RunStore.open(folder, RECIPE) as again, pytest.raises(FedkimError, match="all 3 stored rounds damaged"):
        again.latest()
    assert {path.name: path.read_bytes() for path in store.rounds.iterdir()} == before


def test_a_round_of_another_recipe_slipped_into_the_folder_does_not_count(folder, tmp_path):
    with RunStore.open(tmp_path / "other", from_dict({}, "run.seed=5")) as other:
        other.commit(3, tensors_of(3))
    store = committed(folder, [1, 2])
    for path in other.rounds.iterdir():
        (store.rounds / path.name).write_bytes(path.read_bytes())
    assert store.latest().round == 2


def test_tensors_without_a_manifest_are_no_round(folder):
    store = committed(folder, [1])
    (store.rounds / "round-0002.safetensors").write_bytes(b"half")
    assert store.latest().round == 1


# one writer, one recipe ------------------------------------------------------------------------------------------


@contextmanager
def forked(work):
    """A child process that runs ``work(pipe)``, with the other end of its pipe; a fork, as importing torch takes seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(writing)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield child, reading
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


def read_to_the_end(pipe):
    return b"".join(iter(lambda: os.read(pipe, 4096), b""))


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_dies(folder):
    def hold(pipe):
        with RunStore.open(folder, RECIPE):
            os.write(pipe, b"h")
            time.sleep(60)

    with forked(hold) as (holder, pipe):
        assert os.read(pipe, 1) == b"h"
        with pytest.raises(FedkimError, match=f"process {holder} at work"):
            RunStore.open(folder, RECIPE)
        with pytest.raises(FedkimError, match="at work"):
            RunStore.open(folder, RECIPE, force=True)
        assert RunStore(folder).recipe() == RECIPE
    RunStore.open(folder, RECIPE).close()


@pytest.mark.parametrize("name", [".", "rounds/..", "link"])
def test_a_folder_by_another_name_is_the_same_folder(folder, name, monkeypatch):
    with RunStore.open(folder, RECIPE) as store:
        store.count_reveal()
        store.commit(1, tensors_of(1))
        (folder / "link").symlink_to(folder)
        monkeypatch.chdir(folder)
        assert RunStore(name).is_held()
        assert RunStore(name).revealed() == 1
        with pytest.raises(FedkimError, match="at work"):
            RunStore.open(name, RECIPE)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".mine.lock", ".mine.revealed", "mine"]


def test_a_run_may_begin_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    RunStore.open(".", RECIPE).close()
    assert RunStore(tmp_path / "mine").recipe() == RECIPE


def test_a_name_that_isnt_utf8_is_refused_at_once(tmp_path):
    with pytest.raises(FedkimError, match=r"found a name that isn't UTF-8"):
        RunStore.open(tmp_path / "runs\udcff", RECIPE)


def test_another_recipe_is_refused_with_what_differs_and_force_starts_anew(folder):
    committed(folder, [1])
    other = from_dict({}, "federation.rounds=7", "run.workers=9")  # the latter changes no number
    with pytest.raises(FedkimError, match=r"federation\.rounds is 10 there, 7 here\); choose another .* --force"):
        RunStore.open(folder, other)
    assert RunStore(folder).latest().round == 1
    with RunStore.open(folder, other, force=True) as store:
        assert store.latest() is None
        assert store.recipe() == other
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_a_recipe_with_another_name_or_number_of_workers_resumes(folder):
    committed(folder, [1])
    with RunStore.open(folder, from_dict({}, "run.name=x", "run.workers=1")) as store:
        assert store.latest().round == 1


@pytest.mark.parametrize("kept", ["nothing", "half a round", "an update", "a result", "somebody's notes"])
def test_a_folder_belongs_to_its_recipe_once_anything_of_a_round_was_kept(kept, folder):
    with RunStore.open(folder, RECIPE) as store:
        store.event("mistaken")
        if kept == "half a round":
            store.keep_halfway(1, 3, tensors_of(1))
    if kept == "an update":
        (folder / "spool").mkdir()
        (folder / "spool" / "one").write_bytes(b"")
    if kept == "a result":
        (folder / "result.json").write_text("{}")
    if kept == "somebody's notes":
        (folder / "notes.md").write_text("why the recipe was wrong")
    other = from_dict({"federation": {"rounds": 7}})
    if kept == "nothing":
        with RunStore.open(folder, other) as store:
            assert store.recipe() == other
            assert not (folder / "events.jsonl").exists()
    else:
        with pytest.raises(FedkimError, match="the run of another recipe"):
            RunStore.open(folder, other)
    with RunStore.open(folder, other if kept == "nothing" else RECIPE) as store:  # its own is always taken
        assert store.latest() is None


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path, force):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FedkimError, match=r"files, but no recipe\.json"):
        RunStore.open(tmp_path, RECIPE, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_one_clear_line(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(FedkimError, match="found a file, expected a folder"):
        RunStore.open(tmp_path / "mine", RECIPE)


def test_reading_what_is_no_run_says_so(tmp_path):
    with pytest.raises(FedkimError, match="found no such folder, expected a folder made by `fedkim run`"):
        RunStore(tmp_path / "nothing").recipe()
    with pytest.raises(FedkimError, match=r"found no recipe\.json in it"):
        RunStore(tmp_path).recipe()


def test_another_thread_count_is_refused_because_bits_would_change(folder):
    with RunStore.open(folder, RECIPE, environment=environment(device="cpu")) as store:
        store.commit(1, tensors_of(1))
    now = environment(device="cpu") | {"threads": torch.get_num_threads() + 1}
    with (
        RunStore.open(folder, RECIPE, environment=now) as store,
        pytest.raises(FedkimError, match="resuming with another threads, found 2, expected 1"),
    ):
        store.latest()


@pytest.mark.parametrize("part", ["torch", "code", "instructions"])
def test_other_code_or_processors_only_warn(folder, caplog, part):
    with RunStore.open(folder, RECIPE, environment=environment()) as store:
        store.commit(1, tensors_of(1))
    with RunStore.open(folder, RECIPE, environment=environment() | {part: "99"}) as store:
        assert store.latest().round == 1
    assert f"another {part}" in caplog.text


# crashes ---------------------------------------------------------------------------------------------------------


def test_a_new_run_s_folder_and_those_above_it_survive_a_loss_of_power(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")) or fsync(number)
    )
    folder = tmp_path / "all" / "runs" / "demo"
    RunStore.open(folder, RECIPE).close()
    assert {str(path) for path in (tmp_path, tmp_path / "all", tmp_path / "all" / "runs", folder)} <= set(synced)


def test_a_manifest_s_file_without_a_possible_name_is_damage(folder):
    committed(folder, [1, 2])
    path = folder / "rounds" / "round-0002.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    manifest["file"] = "round\0"
    path.write_text(json.dumps({**manifest, "checksum": text_digest(canonical(manifest))}))
    assert RunStore(folder).latest().round == 1


def test_leftovers_of_dead_processes_are_swept(folder):
    store = committed(folder, [1])
    for path in (store.rounds / ".tmp-99-round-0002.safetensors", folder / ".tmp-99-result.json"):
        path.write_bytes(b"half")
    with RunStore.open(folder, RECIPE) as store:
        assert not list(folder.rglob(".tmp-*"))
        assert list(store.events)[-1]["leftovers"] == 2


def commit_for_ever(folder, pipe):
    """What the killed children do: resume, then commit as fast as they can, reporting each commit."""
    with RunStore.open(folder, RECIPE) as store:
        latest = store.latest()
        number = latest.round if latest else 0
        os.write(pipe, number.to_bytes(4, "big"))
        while True:
            number += 1
            store.commit(
                number, {"state.a.b": torch.full((64,), float(number)), "optimizer.step": torch.tensor(number)}
            )
            os.write(pipe, number.to_bytes(4, "big"))


def test_killed_at_any_moment_the_folder_holds_a_whole_round_and_no_commit_is_lost(folder):
    """Thirty children, one after the other, each killed without warning after a random moment."""
    moments = random.Random(0)
    reached = 0
    for _ in range(30):
        with forked(lambda pipe: commit_for_ever(folder, pipe)) as (child, pipe):
            first = int.from_bytes(os.read(pipe, 4), "big")
            time.sleep(moments.uniform(0.0, 0.06))
            os.kill(child, signal.SIGKILL)
            reported = read_to_the_end(pipe)
        assert first >= reached
        reached = int.from_bytes(reported[-4:], "big") if reported else first
        latest = RunStore(folder).latest()
        if latest is None:
            assert reached == 0
        else:
            assert latest.round in (reached, reached + 1)  # killed between the commit and its report
            assert torch.equal(latest.tensors["state.a.b"], torch.full((64,), float(latest.round)))
    assert reached >= 5  # the kills met commits, not only beginnings


def test_nothing_counts_before_it_is_on_the_disk(folder, monkeypatch):
    """The order that survives a loss of power: content, rename, folder; tensors before the manifest."""
    calls = []
    real = {"fsync": os.fsync, "replace": os.replace}

    def fsync(descriptor):
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        real["fsync"](descriptor)

    def replace(source, target):
        calls.append(("replace", Path(target).name))
        real["replace"](source, target)

    with RunStore.open(folder, RECIPE) as store:
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)
        store.commit(1, tensors_of(1))
    me = os.getpid()
    assert calls == [
        ("fsync", f".tmp-{me}-round-0001.safetensors"),
        ("replace", "round-0001.safetensors"),
        ("fsync", "rounds"),
        ("fsync", f".tmp-{me}-round-0001.json"),
        ("replace", "round-0001.json"),
        ("fsync", "rounds"),
    ]


@pytest.mark.parametrize("step", range(4))
def test_a_failure_at_any_step_of_a_commit_leaves_the_round_before(folder, monkeypatch, step):
    with RunStore.open(folder, RECIPE) as store:
        store.commit(1, tensors_of(1))
        count = iter(range(100))
        real = os.fsync

        def fail(descriptor):
            if next(count) == step:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(FedkimError, match=r"found no room, [\d,]+ bytes free; make room"):
            store.commit(2, tensors_of(2))
        monkeypatch.undo()
        assert store.latest().round == (2 if step == 3 else 1)  # step 3 comes after the manifest's rename
        assert not list(folder.rglob(".tmp-*"))
        store.commit(2, tensors_of(2))
        assert store.latest().round == 2


def test_without_room_for_a_round_it_isnt_begun(folder, monkeypatch):
    with RunStore.open(folder, RECIPE) as store:
        store.commit(1, tensors_of(1))
        before = sorted(store.rounds.iterdir())
        monkeypatch.setattr("fedkim.store.rounds.free_bytes", lambda path: 100)
        with pytest.raises(FedkimError, match=r"found 100 bytes free, expected 132 to commit a round"):
            store.commit(2, tensors_of(2))
        assert sorted(store.rounds.iterdir()) == before


def test_a_disk_that_fills_up_while_writing_keeps_the_round_before(folder):
    """RLIMIT_FSIZE stands in for a full disk."""

    def fill(pipe):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with RunStore.open(folder, RECIPE) as store:
            store.commit(1, {"a.b": torch.ones(8)})
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            try:
                store.commit(2, {"a.b": torch.ones(100_000)})
            except FedkimError as error:
                os.write(pipe, str(error).encode())

    with forked(fill) as (_, pipe):
        assert b"no room" in read_to_the_end(pipe)
    assert RunStore(folder).latest().round == 1
    assert not list(folder.rglob(".tmp-*"))


def test_writing_text_replaces_the_old_content_at_once(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert files_module.sweep(tmp_path) == 0


# events ----------------------------------------------------------------------------------------------------------


def test_events_are_lines_of_numbers_and_short_names(folder):
    with RunStore.open(folder, RECIPE) as store:
        store.event("round", round=3, site="site-1", loss=float("nan"), seconds=1.5)
    (event,) = list(RunStore(folder).events)
    assert event.pop("time") > 0
    assert event == {"event": "round", "round": 3, "site": "site-1", "loss": None, "seconds": 1.5}


@pytest.mark.parametrize(
    "fields",
    [
        {"patient": 3},
        {"reason": "patient Jane Doe, born 1950"},
        {"value": [1.0, 2.0]},
        {"site": "nih/00001697_011"},
        {"reason": "x" * 65},
        {"value": torch.tensor(1.0)},
    ],
)
def test_an_event_has_no_room_for_a_patient(folder, fields):
    with RunStore.open(folder, RECIPE) as store:
        with pytest.raises(ValueError, match="event field"):
            store.event("round", **fields)
        assert list(store.events) == []
    assert "patient" not in FIELDS


def test_a_line_torn_by_a_crash_is_cut_off(folder):
    with RunStore.open(folder, RECIPE) as store:
        store.event("round", round=1)
    with open(folder / "events.jsonl", "a") as file:
        file.write('{"time": 1, "eve')
    assert [event["round"] for event in RunStore(folder).events] == [1]
    with RunStore.open(folder, RECIPE) as store:
        store.event("round", round=2)
        assert [event["round"] for event in store.events] == [1, 2]
