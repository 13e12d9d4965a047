"""What `fedkim site join` starts, and what it leaves when it can't."""

import os
import sys
import tempfile
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator.certificates import make_certificates
from fedkim.data.hospital.site_file import HospitalData
from fedkim.engines.flower.processes import Child
from fedkim.errors import FedkimError
from fedkim.site import joining
from fedkim.site.keys import make_site_keys
from fedkim.site.participant import Coordinator, Participant
from fedkim.site.policy import Policy
from fedkim.store.lock import Lock
from flower_grid import Clock
from small_recipe import small

RECIPE = small()


@pytest.fixture
def site(tmp_path):
    """A site that could join; its records lie too deep for a socket's path."""
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    make_site_keys(tmp_path / "key")
    make_certificates(tmp_path, ["fedkim.example.org"])
    return Participant(
        path=tmp_path / "site.toml",
        name="ward",
        data=HospitalData(source="recipe", shard="site-1"),
        policy=Policy(recipe="recipe.toml", recipe_digest=RECIPE.digest(), tasks=(), modalities=()),
        coordinator=Coordinator(address="[::1]:8000", key=tmp_path / "key", certificate=tmp_path / "ca.crt"),
        records=tmp_path / ("x" * joining.LONGEST),
        read=("1" * 64, "2" * 64),
    )


@pytest.mark.parametrize("broken", ["program", "flower_environment"])
def test_what_cant_be_started_leaves_neither_a_lock_nor_a_folder(broken, site, tmp_path, monkeypatch):
    def refuse(*_):
        raise FedkimError("Flower", found="not installed")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(joining, broken, refuse)
    with pytest.raises(FedkimError, match="not installed"):
        joining.join(site, print)
    assert list((tmp_path / "temporary").iterdir()) == []
    site.records.mkdir(exist_ok=True)
    lock = Lock(site.records / "site.lock", "site", remedy="wait")
    lock.acquire()
    lock.release()


@pytest.mark.parametrize(("kind", "other"), [("key", "ca.crt"), ("key", "key.pub"), ("certificate", "key")])
def test_a_key_or_certificate_that_is_none_is_told_before_anything_starts(kind, other, site, tmp_path):
    coordinator = replace(site.coordinator, **{kind: tmp_path / other})
    with pytest.raises(FedkimError, match=rf"\[coordinator\] {kind}, found something else"):
        joining.join(replace(site, coordinator=coordinator), print)
    assert not site.records.exists()


@pytest.fixture
def commands(site, monkeypatch):
    """The command of each program that join would start."""
    found = {}

    class Unstarted(Child):
        def start(self):
            found[self.name] = self.command
            if self.name == "SuperNode":
                raise KeyboardInterrupt

    monkeypatch.setattr(joining, "Child", Unstarted)
    monkeypatch.setattr(joining, "_wait_for", lambda worker, socket: None)
    monkeypatch.setattr(joining, "free_port", iter(range(1111, 2000)).__next__)
    with pytest.raises(KeyboardInterrupt):
        joining.join(site, lambda text: None)
    return found


def test_each_start_of_the_supernode_takes_a_port_that_is_free_then(commands):
    first, second = commands["SuperNode"](), commands["SuperNode"]()
    assert [command[command.index("--port") + 1] for command in (first, second)] == ["1111", "1112"]
    assert first[first.index("--superlink") + 1] == "[::1]:8000"


def test_a_command_that_is_a_function_is_asked_at_each_start(tmp_path):
    words = iter(("one", "two"))
    child = Child("x", lambda: [sys.executable, "-c", f"print({next(words)!r})"], tmp_path / "x.log", dict(os.environ))
    for word in ("one", "two"):
        child.start()
        child.process.wait(30)
        assert child.last_words() == word


def test_the_worker_is_told_what_join_has_read(commands, site):
    assert commands["worker"][-3:] == ["--read", *site.read]


def test_a_refusal_of_an_earlier_start_isnt_read_as_todays(tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "time", Clock())
    log, said = tmp_path / "supernode.log", []
    log.write_text(f"yesterday: {joining._REFUSAL}\n")
    child = Child("SuperNode", [sys.executable, "-c", "raise SystemExit(3)"], log, dict(os.environ))
    child.start()
    child.process.wait(30)
    joining._Watch(said.append).again(child)
    child.stop()
    assert said == ["SuperNode ended: status 3; starting it again"]


@pytest.mark.parametrize("status", [0, 1])
def test_what_the_middle_of_its_log_tells_is_said(status, tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "time", Clock())
    code = f"print('ssl: CERTIFICATE_VERIFY_FAILED'); print('done\\n' * 20); raise SystemExit({status})"
    child, said = Child("SuperNode", [sys.executable, "-c", code], tmp_path / "s.log", dict(os.environ)), []
    watch = joining._Watch(said.append)
    child.start()
    for _ in range(joining.RESTARTS - 1):
        child.process.wait(30)
        watch.again(child)
    child.process.wait(30)
    with pytest.raises(
        FedkimError, match=r"ended 5 times in 120 s: the coordinator's certificate isn't of the authority"
    ):
        watch.again(child)
    child.stop()
    assert all("certificate isn't of the authority" in line and "clock" not in line for line in said)
