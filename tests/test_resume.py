"""What a run says and does when it is taken up again: every message of it in full."""

import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarks.faults import disk, names

from fedkim import failpoints
from fedkim.errors import FedkimError
from fedkim.recipe import Recipe
from fedkim.run import federate, run_recipe
from fedkim.state import State
from fedkim.store.run_store import RunStore
from small_recipe import small

ROOT = Path(__file__).parents[1]
RECIPE = Recipe()
HERE = {"threads": 1, "device": "cpu", "dtype": "float32"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def tensors(number):
    return {"state.a.b": torch.full((8,), float(number))}


def begin(folder, *, rounds=2, halfway=0):
    with RunStore.open(folder, RECIPE, environment=HERE) as store:
        for number in range(1, rounds + 1):
            store.commit(number, tensors(number))
        for step in range(halfway):
            store.keep_halfway(rounds + 1, step, tensors(10 + step), {"note": step})
    return folder / "rounds"


def damaged(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def told(caplog, folder):
    return [record.getMessage().replace(str(folder), "FOLDER") for record in caplog.records]


# messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda rounds: damaged(rounds / "round-0002.safetensors"),
            "round 2 in FOLDER is damaged (tensors-with-another-digest); going back one",
        ),
        (
            lambda rounds: (rounds / "round-0002.safetensors").write_bytes(b"x"),
            "round 2 in FOLDER is damaged (tensors-of-another-size); going back one",
        ),
        (
            lambda rounds: (rounds / "round-0002.safetensors").unlink(),
            "round 2 in FOLDER is damaged (missing-tensors); going back one",
        ),
        (
            lambda rounds: damaged(rounds / "round-0002.json"),
            "round 2 in FOLDER is damaged (unreadable-manifest); going back one",
        ),
        (
            lambda rounds: shutil.copy(rounds / "round-0001.json", rounds / "round-0002.json"),
            "round 2 in FOLDER is damaged (manifest-of-another-round); going back one",
        ),
    ],
)
def test_a_damaged_newest_round_is_told_and_passed_over(folder, caplog, harm, message):
    harm(begin(folder))
    with RunStore.open(folder, RECIPE, environment=HERE) as store:
        assert store.latest().round == 1
    assert told(caplog, folder) == [message]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda rounds: damaged(rounds / "halfway-0003-00001.safetensors"),
            "what was kept of round 3 is damaged (tensors-with-another-digest); the round starts anew",
        ),
        (
            lambda rounds: damaged(rounds / "halfway-0003.json"),
            "what was kept of round 3 is damaged (unreadable-manifest); the round starts anew",
        ),
        (
            lambda rounds: (rounds / "halfway-0003-00001.safetensors").unlink(),
            "what was kept of round 3 is damaged (missing-tensors); the round starts anew",
        ),
        (
            lambda rounds: damaged(rounds / "round-0002.json"),
            "what was kept of round 3 is damaged (halfway-of-another-run); the round starts anew",
        ),
    ],
)
def test_a_damaged_half_round_is_told_and_the_round_starts_anew(folder, caplog, harm, message):
    harm(begin(folder, halfway=2))
    with RunStore.open(folder, RECIPE, environment=HERE) as store:
        assert store.halfway(3) is None
        assert [event["round"] for event in store.events if event["event"] == "damaged-round"] == [3]
    assert told(caplog, folder) == [message]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({**HERE, "threads": 2}, "resuming with another threads, found 2, expected 1"),
        ({**HERE, "dtype": "bfloat16"}, "resuming with another dtype, found bfloat16, expected float32"),
        ({**HERE, "device": "cuda"}, "resuming with another device, found cuda, expected cpu"),
    ],
)
def test_other_bits_are_refused_for_a_round_and_for_half_of_one(folder, environment, message):
    begin(folder, halfway=1)
    with RunStore.open(folder, RECIPE, environment=environment) as store:
        for read in (store.latest, lambda: store.halfway(3)):
            with pytest.raises(FedkimError) as error:
                read()
            assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "changed", [{"device": "cuda"}, {"dtype": "bfloat16"}, {"language_model": "other"}, {"tokenizer": "other"}]
)
def test_where_no_key_gives_the_same_bits_back_nobody_is_told_to_delete_the_run(folder, changed):
    """The recipe fixes device and type as it fixes the rest, and ``fedkim evaluate`` has neither ``--set`` nor ``--force``."""
    here = {**HERE, "language_model": "one", "tokenizer": "one"}
    with RunStore.open(folder, RECIPE, environment=here) as store:
        store.commit(1, State({"state.a": torch.zeros(1)}))
    with RunStore.open(folder, RECIPE, environment={**here, **changed}) as store:
        with pytest.raises(FedkimError, match="run the recipe into another folder") as caught:
            store.latest()
        assert "--force" not in str(caught.value)
        assert "set run." not in str(caught.value)


@pytest.mark.parametrize("before", [{}, {"language_model": "one"}, {"language_model": "", "tokenizer": ""}])
def test_rounds_that_dont_know_their_language_model_or_its_tokenizer_are_resumed(before, folder):
    with RunStore.open(folder, RECIPE, environment={**HERE, **before}) as store:
        store.commit(1, State({"state.a": torch.zeros(1)}))
    with RunStore.open(folder, RECIPE, environment={**HERE, "language_model": "one", "tokenizer": "one"}) as store:
        assert store.latest().round == 1


def test_where_everything_is_damaged_the_message_says_so(folder):
    for path in begin(folder).glob("round-*.safetensors"):
        damaged(path)
    with pytest.raises(FedkimError) as error:
        RunStore(folder).latest()
    assert str(error.value).replace(str(folder), "FOLDER") == (
        "run folder FOLDER, found all 2 stored rounds damaged (tensors-with-another-digest), expected at least one whole "
        "round; restore the folder from a copy, or start anew with --force"
    )


# half a round ------------------------------------------------------------------------------------------------------


def test_the_latest_half_counts_and_the_commit_removes_it(folder):
    rounds = begin(folder, halfway=3)
    assert sorted(path.name for path in rounds.glob("halfway-*")) == [
        "halfway-0003-00002.safetensors",
        "halfway-0003.json",
    ]
    with RunStore.open(folder, RECIPE, environment=HERE) as store:
        half = store.halfway(3)
        assert (half.manifest["step"], half.manifest["note"]) == (2, 2)
        assert half.tensors.digest() == State(tensors(12)).digest()
        assert store.latest().round == 2  # half a round is none
        store.commit(3, tensors(3))
        assert not list(rounds.glob("halfway-*"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("injection.guidance=2.0",),
        ("injection.teacher=decoder", "injection.train_encoders=false"),
        ("injection.evidence=decoder",),  # with encoders that move away from the decoders that it hears
        ("injection.evidence=decoder", "injection.first_round=2"),
    ],
)
def test_a_run_cut_off_in_its_injection_asks_no_site_again_and_ends_in_the_same_bits(
    folder, tmp_path, monkeypatch, overrides
):
    recipe = small("run.snapshot_seconds=0.0", "injection.steps_per_round=3", "federation.rounds=2", *overrides)
    unbroken = [finished.state.digest() for finished in federate(recipe, out=tmp_path / "whole")]
    reach, steps = failpoints.reach, []

    def stop(name):
        steps.append(name)
        if steps.count("injection.step") == 5 - 3 * (
            recipe.injection.first_round - 1
        ):  # the second round's second step
            raise KeyboardInterrupt
        reach(name)

    monkeypatch.setattr("fedkim.injection.training.reach", stop)
    with pytest.raises(KeyboardInterrupt):
        list(federate(recipe, out=folder))
    monkeypatch.undo()

    def nobody(self, round, state):
        raise AssertionError("a site was asked again")
        yield

    monkeypatch.setattr("fedkim.run.rounds.InProcess.__call__", nobody)
    (last,) = federate(recipe, out=folder)
    assert last.state.digest() == unbroken[-1]
    digests = [RunStore(run).latest().manifest["digest"] for run in (folder, tmp_path / "whole")]
    assert digests[0] == digests[1]
    resumed = [event for event in RunStore(folder).events if event["event"] == "resumed"]
    assert [event.get("step") for event in resumed] == [None, 1]


def test_the_time_of_a_round_that_was_cut_off_counts(folder, monkeypatch):
    recipe = small(
        "run.snapshot_seconds=0.0", "injection.steps_per_round=2", "federation.rounds=1", "evaluation.blind=false"
    )
    with monkeypatch.context() as patch:
        patch.setattr("fedkim.injection.training.reach", _stop)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, out=folder)
    info = run_recipe(recipe, out=folder)["run_info"]
    assert info["seconds_by_part"]["rounds before resuming"] > 0
    assert info["seconds"] >= sum(info["seconds_by_part"].values()) - 1  # rounded


def _stop(name):
    raise KeyboardInterrupt


# fail-points -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "tensors.writen@1",
            "unknown fail-point in FEDKIM_FAILPOINT: 'tensors.writen'; did you mean 'tensors.written'?",
        ),
        ("tensors.written@0", "FEDKIM_FAILPOINT=tensors.written@0, expected NAME, NAME@TIMES or NAME@TIMES:full"),
        ("tensors.written@²", "FEDKIM_FAILPOINT=tensors.written@², expected NAME, NAME@TIMES or NAME@TIMES:full"),
        (
            "tensors.written@1:loud",
            "FEDKIM_FAILPOINT=tensors.written@1:loud, expected NAME, NAME@TIMES or NAME@TIMES:full",
        ),
    ],
)
def test_a_fail_point_that_doesnt_exist_is_an_error(spec, message):
    with pytest.raises(FedkimError) as error:
        failpoints.arm(spec)
    assert str(error.value) == message


def test_the_second_passing_meets_a_full_disk_and_the_round_before_stays(folder):
    rounds = begin(folder, rounds=1)
    failpoints.arm("manifest.written@2:full")
    try:
        with RunStore.open(folder, RECIPE, environment=HERE) as store:
            store.commit(2, tensors(2))
            with pytest.raises(FedkimError, match="no room"):
                store.commit(3, tensors(3))
    finally:
        failpoints.arm(None)
    assert RunStore(folder).latest().round == 2
    assert not list(rounds.glob(".tmp-*"))


@pytest.mark.slow
def test_the_command_dies_where_the_variable_says_and_resumes(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fedkim",
        "run",
        str(ROOT / "recipes" / "smoke.toml"),
        "--out",
        str(tmp_path / "run"),
    ]
    died = subprocess.run(command, env={**os.environ, "FEDKIM_FAILPOINT": "manifest.synced@2"}, capture_output=True)
    assert died.returncode == -9
    assert RunStore(tmp_path / "run").latest().round == 1
    unbroken = subprocess.run([*command[:-1], str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in unbroken.stdout.splitlines() if "digest" in line)
    assert line in resumed.stdout
    assert "resuming after round 1" in resumed.stderr


# faults, the small version of `make faults` -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "fail-points", "sigterm", "damage", "full", "unflushed", "names", "attacks"])
def test_faults_are_survived(fault, tmp_path):
    """In a process of its own: the children it forks must not inherit this one's threads."""
    if fault == "attacks":
        pytest.importorskip(
            "flwr", reason="SKIPPED: the attacks are shown beside Flower's strategies; pip install 'fedkim[flower]'"
        )
    command = [
        sys.executable,
        "-m",
        "benchmarks.faults",
        "--quick",
        "--only",
        fault,
        "--json",
        str(tmp_path / "faults.json"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = json.loads((tmp_path / "faults.json").read_text())["lines"]
    assert all(line["survived"] == line["tried"] > 0 for line in lines)


def test_the_documents_table_holds_the_committed_figures():
    from benchmarks.faults.__main__ import markdown

    record = json.loads((ROOT / "results" / "benchmarks" / "faults.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    told = text.split("<!-- results:faults -->\n")[1].split("<!-- /results:faults -->")[0]
    assert told == markdown(record)
    assert not record["quick"]


def test_names_hold_what_they_say_and_one_that_led_out_would_be_found(monkeypatch):
    assert len(names.NAMES) == 200
    assert all(any(sign in name for name in names.NAMES) for sign in ("\0", "\n", "\u202e", "\uff0e", "\\"))
    assert names.stays_inside("../../x")
    for reader in ("manifests", "rounds"):
        monkeypatch.setattr(f"fedkim.store.{reader}.Path", lambda name: SimpleNamespace(name=name))
    assert not names.stays_inside("../../x")


def test_every_step_of_a_write_is_tried_with_a_full_disk(monkeypatch):
    points, subject = [], SimpleNamespace(digest="", recipe=Recipe())

    @contextmanager
    def child(work, point):
        points.append(point)
        yield 0, 0

    monkeypatch.setattr(disk, "child", child)
    monkeypatch.setattr(disk, "everything", lambda pipe: b"")
    monkeypatch.setattr(disk, "spread", lambda cases, judge, jobs: [judge(case) for case in cases])
    monkeypatch.setattr(disk, "_largest_file", lambda subject: 100)
    assert disk.full(subject, tries=30, jobs=1) == 0
    assert {point.partition("@")[0] for point in points if point} == set(disk.WRITES)


def test_damage_is_logged_once_and_by_the_store(folder, caplog):
    caplog.set_level(logging.WARNING)
    damaged(begin(folder) / "round-0002.safetensors")
    RunStore(folder).latest()
    assert [record.name for record in caplog.records] == ["fedkim.store.rounds"]
