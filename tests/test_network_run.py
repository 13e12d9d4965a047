"""The coordinator's loop over a grid in this process: what a run on a network keeps, resumes and says about itself."""

import io
import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import fedkim

pytest.importorskip("flwr", reason="SKIPPED, NOT RUN: needs fedkim[flower]")

from fedkim.coordinator import server_app
from fedkim.coordinator.federation_file import TLS, FederationFile, Listening
from fedkim.coordinator.member import Member
from fedkim.coordinator.standing import MANIFEST, read_standing, write_standing
from fedkim.data.hospital.site_file import HospitalData
from fedkim.engines.flower import exchange as module
from fedkim.errors import FedkimError
from fedkim.progress import Plain, Silent
from fedkim.run import run_recipe
from fedkim.run.pipeline import score_again
from fedkim.run.world import build_world
from fedkim.site.answering import Answering
from fedkim.site.audit import AuditLog
from fedkim.site.keys import make_site_keys
from fedkim.site.participant import Participant
from fedkim.site.policy import Policy
from fedkim.store.files import file_digest
from fedkim.store.lock import Lock
from flower_grid import Clock, Grid
from network import Federation
from small_recipe import small

RECIPE = small("federation.sites=2", "federation.rounds=2", "evaluation.blind=false")


@pytest.fixture
def federation(tmp_path, monkeypatch):
    """``(file, grid)``: a manifest of two sites, and the grid on which they answer."""
    monkeypatch.setattr(module, "time", Clock())
    (tmp_path / "recipe.toml").write_text(RECIPE.to_toml())
    grid, members = Grid(), {}
    for number, (name, owned) in enumerate(build_world(RECIPE).owned.items(), 1):
        parts = [part.split(".", 1) for part in owned]
        tasks = tuple(part for kind, part in parts if kind == "decoder")
        modalities = tuple(part for kind, part in parts if kind == "encoder")
        policy = Policy(
            recipe="recipe.toml", recipe_digest=RECIPE.digest(), tasks=tasks, modalities=modalities, min_cohort=1,
            min_contributors_per_component=1,
        )  # fmt: skip
        site = Participant(
            path=tmp_path / f"{name}.toml", name=name, data=HospitalData(source="recipe", shard=name), policy=policy,
            coordinator=None, records=tmp_path / name, read=("", file_digest(tmp_path / "recipe.toml")),
        )  # fmt: skip
        key = make_site_keys(tmp_path / f"{name}.key")
        grid.connect(number, key, Answering(site, AuditLog(site.audit)).answer)
        members[name] = Member(name=name, public_key=key, modalities=modalities, tasks=tasks, max_examples=1000)
    (tmp_path / "run-network").mkdir()
    file = FederationFile(
        path=tmp_path / "federation.toml", recipe=RECIPE, run_recipe=RECIPE, out=tmp_path / "run",
        network=Listening(start_wait=5.0), tls=TLS(authority=tmp_path, certificate=tmp_path, key=tmp_path),
        sites=members,
    )  # fmt: skip
    return file, grid


def start(file, grid):
    return server_app.run(file, grid, Plain(io.StringIO()))


class Killed(BaseException):
    pass


def test_a_half_round_goes_on_without_its_sites_and_ends_in_the_same_bits(federation, tmp_path, monkeypatch):
    file, grid = federation
    alone = run_recipe(RECIPE, out=tmp_path / "alone")["train_info"]["digest"]

    def die(name):
        if name == "injection.begin" and (file.out / "rounds" / "round-0001.json").exists():
            raise Killed

    with monkeypatch.context() as during:
        during.setattr("fedkim.run.rounds.reach", die)
        with pytest.raises(Killed):
            start(file, grid)
    asked, nodes = len(grid.pushed), dict(grid.nodes)
    grid.nodes.clear()
    result = start(file, grid)
    assert len(grid.pushed) == asked, "nobody trains again for a round whose updates were kept"
    assert result["train_info"]["digest"] == alone
    assert read_standing(file.state)["state"] == "running"
    assert start(file, grid) == result, "a finished run waits for nobody"
    grid.nodes.update(nodes)


def test_sites_that_never_come_end_the_wait_with_their_names(federation):
    file, grid = federation
    grid.nodes.clear()
    with pytest.raises(FedkimError, match=r"0 of 2 sites connected.*missing: site-1, site-2"):
        start(file, grid)
    assert read_standing(file.state)["state"] == "waiting"


def test_a_networked_run_says_so_now_and_when_it_is_scored_again(federation):
    file, grid = federation
    result = start(file, grid)
    again = score_again(file.out, data=None, reveal_test=False, progress=Silent())
    for told in (result, again):
        assert told["meta_info"]["network"] is True
        assert all(set(facts) == {"components"} for facts in told["meta_info"]["sites"].values())
    stored = json.loads((file.out / "result.json").read_text())
    assert stored["meta_info"]["sites"] == result["meta_info"]["sites"]
    assert not any("simple" in entry["rows"] for entry in result["metrics"].values()), (
        "nobody's private patients are here"
    )
    with pytest.raises(FedkimError, match="a federation over a network"):
        run_recipe(replace(RECIPE), out=file.out, reveal_test=True)


def test_another_run_folder_is_another_run_to_the_sites_and_a_resumed_one_the_same(federation):
    file, grid = federation
    start(file, grid)
    name = server_app.run_name(file)
    assert name == server_app.run_name(file)
    file.out.rename(file.out.with_name("moved-away"))
    assert server_app.run_name(file) != name


def test_another_run_begins_other_events_and_those_before_are_kept(federation):
    file, grid = federation
    start(file, grid)
    name, events = server_app.run_name(file), file.state / "network.jsonl"
    before = events.read_text()
    start(file, grid)
    assert events.read_text() == before
    file.out.rename(file.out.with_name("moved-away"))
    start(file, grid)
    assert (file.state / f"network-{name}.jsonl").read_text() == before
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["round"] for event in told if event["event"] == "reply"] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "/data/run"), "/data/run: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("Jane Canary Doe"), "ValueError"),
    ],
)
def test_an_error_that_nobody_thought_of_names_what_the_system_names(error, reason, tmp_path, monkeypatch):
    Federation(tmp_path, small("federation.sites=2"))
    (tmp_path / "run-network").mkdir()
    lock = Lock(tmp_path / "run-network" / "coordinator.lock", "a coordinator", remedy="wait")
    lock.acquire()
    monkeypatch.setenv(MANIFEST, str(tmp_path / "federation.toml"))

    def fails(*_):
        raise error

    monkeypatch.setattr(server_app, "run", fails)
    with pytest.raises(type(error)):
        server_app.main(None, None)
    lock.release()
    told = read_standing(tmp_path / "run-network")
    assert (told["state"], told["round"]) == ("failed", 0)
    assert told["reason"] == f"an error of the program: {reason}; see superlink.log; the same command resumes"


def test_remedies_are_those_of_a_coordinator():
    sources = [
        path.read_text()
        for part in ("run", "store")
        for path in sorted((Path(fedkim.__file__).parent / part).glob("*.py"))
    ]
    remedies = [found for text in sources for found in re.findall(r'remedy ?= ?f?"([^"]*--(?:out|force)[^"]*)"', text)]
    remedies = [remedy for remedy in remedies if not remedy.startswith("choose another")]  # of exports and folds
    assert len(remedies) >= 6
    for remedy in remedies:
        told = server_app._networked(FedkimError("run x", found="y", remedy=remedy)).remedy
        assert "--" not in told
        assert "[recipe] out of the manifest" in told
    told = server_app._networked(FedkimError("x", remedy="restore the folder from a copy, or start anew with --force"))
    assert (
        told.remedy == "restore the folder from a copy, or start anew in another folder ([recipe] out of the manifest)"
    )


@pytest.mark.parametrize("itself", [False, True])
def test_a_loop_ends_with_its_coordinator_whatever_that_said_last_unless_it_has_ended_by_itself(
    itself, tmp_path, monkeypatch
):
    exits, ended = [], threading.Event()
    monkeypatch.setattr(os, "_exit", exits.append)
    coordinator = Lock(tmp_path / "coordinator.lock", "a coordinator", remedy="wait")
    coordinator.acquire()
    before = set(threading.enumerate())
    server_app._end_with(coordinator.path, ended)
    (watching,) = set(threading.enumerate()) - before
    write_standing(tmp_path, "failed", reason="the federation's loop, found no sign of life")
    if itself:
        ended.set()
    coordinator.release()
    watching.join(30)
    assert exits == ([] if itself else [75])
