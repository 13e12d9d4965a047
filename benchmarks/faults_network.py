"""Faults of a federation on a network, on purpose: ``python -m benchmarks.faults_network [--kills 20]``.

Coordinator and sites are processes with TLS and keys, except where a row says *grid*: there the exchange runs over a grid
in this process whose clock moves only when it waits, so that thirty rounds of lost sites take seconds.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedkim.aggregation import Rejection
from fedkim.engines import InProcess
from fedkim.recipe import Recipe
from fedkim.run import run_recipe
from fedkim.run.network import Network
from fedkim.state import State, Update
from fedkim.store.run_store import RunStore

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from network import Federation
from small_recipe import small

DEADLINE, GRACE = 60, 3
NETWORK = f"quorum = 2\ndeadline = {DEADLINE}\ngrace = {GRACE}\nstart_wait = 120\nattempts = 3\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault and what came of it."""

    fault: str
    times: int
    outcome: str
    ok: bool


def recipe(rounds: int, sites: int = 3) -> Recipe:
    """The smallest recipe, with missing modalities."""
    return small(
        f"federation.sites={sites}",
        f"federation.rounds={rounds}",
        "federation.partition=missing-modality",
        "evaluation.blind=false",
    )


def kill_sites(folder: Path, kills: int) -> Row:
    """kill -9 one site and all it started in every round, and let it join again."""
    chosen = recipe(kills + 1)
    random_site = random.Random(0)
    with Federation(folder, chosen, network=NETWORK) as federation:
        coordinator = federation.start()
        names = list(federation.world.owned)

        def begun_or_over(number: int) -> bool:
            return begun(federation, number) or coordinator.poll() is not None

        for number in range(1, kills + 1):
            federation.wait_for(partial(begun_or_over, number), 400)
            time.sleep(random_site.uniform(0, 4))
            site = random_site.choice(names)
            federation.kill(site)
            federation.join(site)
        federation.wait_for(lambda: coordinator.poll() is not None, 600)
        slowest = longest_round(federation)
        same = federation.standing().get("digest") == replayed(folder, chosen)
        ended = federation.standing()["state"] == "finished"
    outcome = f"{'finished' if ended else 'ended'}, slowest round {slowest:.0f} s, weights {same_as(same)}"
    return Row(fault="kill -9 a site in mid-round", times=kills, outcome=outcome, ok=ended and same)


def hang_and_strangers(folder: Path) -> Iterator[Row]:
    """A worker that stops answering; a node whose key is in no manifest; a site with another's name and a key of its own."""
    chosen = recipe(4)
    with Federation(folder, chosen, network=NETWORK) as federation:
        for name in ("stranger", "impostor"):
            federation.fedkim("site", "keys", "--out", f"{name}.key")
            text = (folder / "site-1.toml").read_text().replace('key = "site-1.key"', f'key = "{name}.key"')
            text = text.replace(
                'name = "site-1"', f'name = "{"site-1" if name == "impostor" else name}"\nfolder = "{name}"'
            )
            (folder / f"{name}.toml").write_text(text)
            federation.join(name)
        coordinator = federation.start()
        federation.wait_for(lambda: begun(federation, 2), 400)
        stopped = worker_of(federation.processes["site-3"].pid)
        os.kill(stopped, signal.SIGSTOP)
        federation.wait_for(lambda: coordinator.poll() is not None, 600)
        os.kill(stopped, signal.SIGCONT)
        slowest, ended = longest_round(federation), federation.standing()["state"] == "finished"
        same = federation.standing().get("digest") == replayed(folder, chosen)
        refused = {name: turned_away(folder, name) for name in ("stranger", "impostor")}
    outcome = f"{'finished' if ended else 'ended'}, slowest round {slowest:.0f} s (deadline {DEADLINE}), weights {same_as(same)}"
    yield Row(fault="hang a site's worker", times=1, outcome=outcome, ok=ended and same and slowest <= DEADLINE + 5)
    for name, what in (("stranger", "unregistered node"), ("impostor", "wrong key under a site's name")):
        told = "refused as it connected, nothing in its audit log" if refused[name] else "NOT REFUSED"
        yield Row(fault=what, times=1, outcome=f"{told}; the others finished", ok=refused[name])


def coordinator_and_revoked(folder: Path) -> Iterator[Row]:
    """kill -9 the coordinator, start again; then take a site out of the manifest and start the next run."""
    chosen = recipe(4)
    alone = run_recipe(chosen, out=folder / "alone")["train_info"]["digest"]
    with Federation(folder, chosen, network=NETWORK.replace("quorum = 2", "quorum = 3")) as federation:
        federation.start()
        federation.wait_for(lambda: committed(folder) >= 2, 400)
        federation.kill("coordinator")
        before = committed(folder)
        coordinator = federation.launch("coordinator", "coordinator", "start", "federation.toml")
        federation.wait_for(lambda: coordinator.poll() is not None, 600)
        standing = federation.standing()
        rounds = [e["round"] for e in federation.events() if e["event"] == "reply" and e["site"] == "site-1"]
        resumed = any(e["event"] == "resumed" and e["round"] >= before for e in RunStore(folder / "run").events)
        same = standing.get("digest") == alone
        outcome = (
            f"{standing['state']}, resumed after round {before}, site-1 was asked for {rounds}, weights {same_as(same)}"
        )
        yield Row(fault="kill -9 the coordinator, start again", times=1, outcome=outcome, ok=resumed and same)

        federation.fedkim("coordinator", "remove-site", "federation.toml", "--name", "site-3")
        manifest = federation.manifest.read_text().replace('out = "run"', 'out = "second/run"')
        federation.manifest.write_text(manifest.replace("quorum = 3", "quorum = 2"))
        lines = len((folder / "site-3-federation" / "audit.jsonl").read_text().splitlines())
        (folder / "second").mkdir()
        os.rename(folder / "run-network", folder / "second" / "run-network")  # the same Flower database
        for name in ("standing.json", "network.jsonl", "run-name"):
            (folder / "second" / "run-network" / name).unlink()
        coordinator = federation.launch("coordinator", "coordinator", "start", "federation.toml")
        federation.wait_for(lambda: coordinator.poll() is not None, 600)
        silent = len((folder / "site-3-federation" / "audit.jsonl").read_text().splitlines()) == lines
        ended = coordinator.returncode == 0
        outcome = (
            f"{'finished' if ended else 'ended'} without it; its audit log {'stayed as it was' if silent else 'GREW'}"
        )
        yield Row(fault="revoked site", times=1, outcome=outcome, ok=ended and silent)


# reading a federation's folder ------------------------------------------------------------------------------------


def committed(folder: Path) -> int:
    """The newest committed round."""
    return max((int(path.stem.split("-")[1]) for path in (folder / "run" / "rounds").glob("round-*.json")), default=0)


def begun(federation: Federation, number: int) -> bool:
    """Whether the sites are being asked for a round; before the first of them they are waited for."""
    asked = any(event["event"] == "connected" for event in federation.events())
    return asked and committed(federation.folder) >= number - 1 and federation.standing().get("state") == "running"


def longest_round(federation: Federation) -> float:
    """Seconds of the slowest round."""
    result = RunStore(federation.folder / "run").latest()
    return max(entry["seconds"] for entry in result.manifest["history"]) if result else float("nan")


def replayed(folder: Path, chosen: Recipe) -> str:
    """The digest of one process in which the same sites take part in each round."""
    latest = RunStore(folder / "run").latest()
    assert latest is not None, "no round was committed"
    took_part = {entry["round"]: list(entry["sites"]) for entry in latest.manifest["history"]}
    from fedkim.run.world import build_world

    world = build_world(chosen)

    def exchange(round: int, state: State) -> Iterator[Update | Rejection]:
        engine = InProcess(
            {site: world.sites[site] for site in took_part[round]},
            owned=world.owned,
            tasks=world.seen,
            settings=chosen.extraction,
            penalty=world.algorithm.penalty,
            participation=1.0,
            workers=1,
            seed=chosen.run.seed,
        )
        return engine(round, state)

    network = Network(declared=world.declared, exchange=exchange)
    result = run_recipe(chosen, out=folder / "replayed", network=network)
    return result["train_info"]["digest"]


def same_as(same: bool) -> str:
    """For a table."""
    return "as in one process with the same participants" if same else "DIFFER"


def turned_away(folder: Path, name: str) -> bool:
    """Whether a node was refused by the coordinator, and its worker never heard a question."""
    log = (folder / name / "supernode.log").read_text(errors="replace")
    return "Failed to activate SuperNode" in log and not (folder / name / "audit.jsonl").exists()


def worker_of(parent: int) -> int:
    """The process id of a site's worker."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0")
        if b"fedkim.site.worker" in words:
            status = (path.parent / "status").read_text()
            if f"PPid:\t{parent}\n" in status:
                return int(path.parent.name)
    raise RuntimeError("no worker")


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| fault | times | what came of it | |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.fault} | {row.times} | {row.outcome} | {'ok' if row.ok else 'FAILED'} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Run every fault and print the table; status 1 if one came out wrong."""
    from benchmarks.faults_grid import grid_rows

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", choices=("grid", "kills", "hang", "coordinator"))
    chosen = parser.parse_args()
    parts = {
        "grid": lambda folder: grid_rows(Row),
        "coordinator": coordinator_and_revoked,
        "hang": hang_and_strangers,
        "kills": lambda folder: [kill_sites(folder, chosen.kills)],
    }
    rows: list[Row] = []
    for name, part in parts.items():
        if chosen.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"fedkim-{name}-") as folder:
                for row in part(Path(folder)):
                    rows.append(row)
                    print(table([row]).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
