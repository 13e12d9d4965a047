"""Programs under supervision: what their logs say last."""

import os
import sys

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator.standing import lock_holder
from fedkim.engines.flower.processes import Child, flower_environment
from fedkim.errors import FedkimError
from fedkim.site import joining
from fedkim.store.lock import Lock
from flower_grid import Clock


def test_the_last_words_of_a_log_are_its_last_lines(tmp_path):
    child = Child("worker", [], tmp_path / "log", {})
    assert child.last_words() == ""
    for text in ("one\ntwo\nthree\n", "one\ntwo\nthree"):
        (tmp_path / "log").write_text(text)
        assert child.last_words(1) == "three"
        assert child.last_words(2) == "two | three"


def test_no_proxy_of_the_house_comes_between_programs_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intranet.example, localhost")
    told = flower_environment(tmp_path / "home")
    assert told["NO_PROXY"].split(",") == ["intranet.example", "localhost", "127.0.0.1", "::1"]
    assert {"127.0.0.1", "localhost", "::1"} <= set(told["no_proxy"].split(","))


def refusing(tmp_path, text, status):
    log = tmp_path / "supernode.log"
    command = [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"]
    child = Child("SuperNode", command, log, dict(os.environ))
    child.start()
    child.process.wait(30)
    return child


def watched(watch, child, clock):
    """The program is started again whenever it has ended, until the watch gives it up."""
    for _ in range(100):
        watch.again(child)
        child.process.wait(30)
        child.started[-1] = clock.now


def test_a_coordinator_that_refuses_is_asked_for_minutes_before_anybody_is_blamed(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(joining, "time", clock)
    said, child = [], refusing(tmp_path, "Failed to activate SuperNode", 1)
    child.started = [0.0]
    with pytest.raises(FedkimError, match=r"this site refused for 300 s.*one process alone"):
        watched(joining._Watch(said.append), child, clock)
    assert 300 < clock.now < 330
    assert all("takes it for connected" in line for line in said)


def test_a_program_that_keeps_ending_by_itself_is_given_up_and_clocks_are_named(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(joining, "time", clock)
    said, child = [], refusing(tmp_path, "SuperNode terminated gracefully", 0)
    child.started = [0.0]
    with pytest.raises(FedkimError, match=r"ended 5 times in 120 s.*clock"):
        watched(joining._Watch(said.append), child, clock)
    assert len(said) == 4


def test_a_number_in_a_lock_file_that_is_another_process_by_now_holds_nothing(tmp_path):
    lock = Lock(tmp_path / "x.lock", "x", remedy="wait")
    lock.acquire()
    assert lock_holder(lock.path) == os.getpid()
    lock.release()
    assert lock_holder(lock.path) is None, "this process lives, and holds it no more"
