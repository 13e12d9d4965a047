"""Ending a federation on purpose, and going on."""

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator import starting
from fedkim.errors import FedkimError
from fedkim.run import run_recipe
from fedkim.store.lock import Lock
from network import Federation
from small_recipe import small


@pytest.mark.slow
def test_a_stopped_federation_says_so_and_the_same_start_resumes_to_the_same_bits(tmp_path):
    recipe = small("federation.sites=2", "federation.rounds=3", "evaluation.blind=false")
    alone = run_recipe(recipe, out=tmp_path / "in-process")["train_info"]["digest"]
    with Federation(tmp_path, recipe) as federation:
        coordinator = federation.start()
        rounds = tmp_path / "run" / "rounds"
        federation.wait_for(lambda: (rounds / "round-0001.json").exists(), 900)
        assert "asked process" in federation.fedkim("stop", "federation.toml")
        federation.wait_for(lambda: coordinator.poll() is not None, 30)
        assert coordinator.returncode == 143
        assert federation.standing()["state"] == "stopped"
        assert "stopped (flower): round" in federation.fedkim("status", "federation.toml")
        assert all(federation.processes[site].poll() is None for site in recipe_sites(federation)), "sites wait for it"
        again = federation.launch("coordinator", "coordinator", "start", "federation.toml")
        federation.wait_for(lambda: again.poll() is not None, 900)
        assert again.returncode == 0, federation.logs()
        assert federation.standing()["digest"] == alone


def recipe_sites(federation):
    return list(federation.world.owned)


@pytest.fixture
def running(tmp_path, monkeypatch):
    """``(file, signals)``: this process holds a federation's lock; signals go nowhere."""
    lock, signals = Lock(tmp_path / "coordinator.lock", "coordinator", remedy="stop it"), []
    lock.acquire()
    monkeypatch.setattr(starting.os, "kill", lambda process, number: signals.append(process))
    yield SimpleNamespace(state=tmp_path), signals
    lock.release()


def test_the_holder_of_the_lock_is_asked_to_end_and_looking_takes_no_lock(running, monkeypatch):
    file, signals = running
    monkeypatch.setattr(Lock, "acquire", lambda self: pytest.fail("took the lock that a start may want just now"))
    assert starting.stop(file.state) == os.getpid()
    assert signals == [os.getpid()]
    assert starting.stop(file.state / "elsewhere") is None


@pytest.mark.parametrize(("error", "told"), [(ProcessLookupError, None), (PermissionError, "of another account")])
def test_a_coordinator_that_has_just_ended_or_is_anothers_is_no_traceback(error, told, running, monkeypatch):
    def refuse(process, number):
        raise error

    file, _ = running
    monkeypatch.setattr(starting.os, "kill", refuse)
    if told is None:
        assert starting.stop(file.state) is None
        return
    with pytest.raises(FedkimError, match=told):
        starting.stop(file.state)


def test_a_folder_of_another_account_isnt_taken_for_one_without_a_coordinator(running, monkeypatch):
    file, _ = running
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FedkimError, match="no permission to look into it"):
        starting.stop(file.state)
