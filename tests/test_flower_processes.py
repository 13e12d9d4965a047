"""Programs under supervision: what their logs say last."""

import os
import sys

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.engines.flower.processes import Child, flower_environment
from fedkim.errors import FedkimError
from fedkim.site import joining
from fedkim.store.lock import Lock, lock_holder
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


@pytest.fixture
def given_up(tmp_path, monkeypatch):
    """``given_up(text, status, why) -> (seconds, said)``: a SuperNode that says so and ends is started again until it is given up."""
    clock = Clock()
    monkeypatch.setattr(joining, "time", clock)

    def give_up(text, status, why):
        command = [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"]
        child, said = Child("SuperNode", command, tmp_path / "supernode.log", dict(os.environ)), []
        watch = joining._Watch(said.append)

        def keep_starting():
            child.start()
            for _ in range(100):
                child.process.wait(30)
                child.started[-1] = clock.now
                watch.again(child)

        with pytest.raises(FedkimError, match=why):
            keep_starting()
        return clock.now, said

    return give_up


def test_a_coordinator_that_refuses_is_asked_for_minutes_before_anybody_is_blamed(given_up):
    seconds, said = given_up("Failed to activate SuperNode", 1, r"this site refused for 300 s.*one process alone")
    assert 300 < seconds < 330
    assert all("takes it for connected" in line for line in said)


def test_a_program_that_keeps_ending_by_itself_is_given_up_and_clocks_are_named(given_up):
    _, said = given_up("SuperNode terminated gracefully", 0, r"ended 5 times in 120 s.*clock")
    assert len(said) == 4


def test_a_number_in_a_lock_file_that_is_another_process_by_now_holds_nothing(tmp_path):
    lock = Lock(tmp_path / "x.lock", "x", remedy="wait")
    lock.acquire()
    assert lock_holder(lock.path) == os.getpid()
    lock.release()
    assert lock_holder(lock.path) is None, "this process lives, and holds it no more"
