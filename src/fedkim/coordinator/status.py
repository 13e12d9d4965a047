"""One view of a run for every engine: state, rounds, sites, bytes; read from files alone, so it disturbs nobody."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedkim.coordinator.standing import TERMINAL, read_standing, require_access
from fedkim.errors import FedkimError
from fedkim.store.declared import recall_declared
from fedkim.store.files import json_lines
from fedkim.store.lock import lock_holder
from fedkim.store.run_folder import RunFolder


def status_of(path: Path) -> dict[str, Any]:
    """How a run stands.

    Returns:
        state, reason, engine, round, rounds, and by site: rounds answered, bytes, the last round's seconds, its last event.

    Raises:
        FedkimError: neither a run's folder nor a federation's manifest.
    """
    if path.suffix == ".toml":
        from fedkim.coordinator.federation_file import load_federation_file  # modalities, and with them torch: seconds

        file = load_federation_file(path)
        found, damage = _nothing(file.recipe.federation.rounds), ""
        if (file.out / "recipe.json").is_file():
            found, damage = _run(RunFolder(file.out))
        require_access(file.state)
        standing = read_standing(file.state)
        state = standing.get("state", "not-started")
        if state not in TERMINAL and standing and lock_holder(file.state / "coordinator.lock") is None:
            state, standing["reason"] = "stopped", "the coordinator died; the same command resumes"
        sites = _sites(file.state / "network.jsonl", list(file.sites))
        reason = "; ".join(filter(None, (standing.get("reason", ""), damage)))
        return {**found, "engine": "flower", "state": state, "reason": reason, "sites": sites}
    if not (path / "recipe.json").is_file():
        raise FedkimError(f"{path}", found="no run", expected="a run's folder or a federation.toml")
    run = RunFolder(path.resolve())
    state = "running" if run.is_held() else "finished" if (path / "result.json").is_file() else "stopped"
    engine = "flower" if recall_declared(path) else "in-process"
    found, reason = _run(run)
    if state == "finished" and not run.newest_round():
        reason = "its rounds aren't kept any more, as of a matrix's cell that is done"
    return {**found, "engine": engine, "state": state, "reason": reason, "sites": _given(run.history())}


def status_text(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{found['state']} ({found['engine']}): round {found['round']} of {found['rounds']} committed"]
    if found["reason"]:
        lines.append(f"  {found['reason']}")
    for name, site in found["sites"].items():
        told = [f"{site['rounds']} rounds"]
        told += [f"{site[key]:,} bytes {key}" for key in ("sent", "received") if key in site]
        told += [f"last round {site['seconds']:.1f} s"] if site.get("seconds") else []
        told += [f"last event: {site['last']}, {site['ago']:.0f} s ago"] if site.get("last") else []
        lines.append(f"  {name}: {', '.join(told)}")
    return "\n".join(lines)


def _run(run: RunFolder) -> tuple[dict[str, Any], str]:
    """The newest round that is whole, and what is wrong with a later one. Not while a process works there: it knows its rounds."""
    newest = whole = run.newest_round()
    damage = ""
    if newest and not run.is_held():
        whole = int(run.manifests.newest_whole().get("round", 0))
        if not whole:
            damage = "every stored round is damaged: restore the folder from a copy, or start anew with --force"
        elif whole < newest:
            damage = f"what came after round {whole} is damaged; the same command makes it anew"
    return {"round": whole, "rounds": run.recipe().federation.rounds}, damage


def _nothing(rounds: int) -> dict[str, Any]:
    return {"round": 0, "rounds": rounds}


def _sites(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    sites: dict[str, dict[str, Any]] = {name: {"rounds": 0, "sent": 0, "received": 0} for name in names}
    answered: dict[str, set[int]] = {name: set() for name in names}  # a round may be asked for again, after a crash
    for event in json_lines(path):
        site = sites.get(event.get("site", ""))
        if site is None:
            continue
        site["last"], site["ago"] = event["event"], time.time() - event["time"]
        if "reason" in event:
            site["last"] += f" ({event['reason']})"
        if event["event"] == "reply":
            answered[event["site"]].add(event["round"])
            site["rounds"] = len(answered[event["site"]])
            site["sent"] += event["sent"]
            site["received"] += event["received"]
            site["seconds"] = event["seconds"]
        if event.get("digest") and event["event"] in ("reply", "rejected"):
            site["audit"] = event["digest"]
    return sites


def _given(history: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By site, what it took part in by a run's history."""
    sites: dict[str, dict[str, int]] = {}
    for entry in history:
        for name, given in entry["sites"].items():
            site = sites.setdefault(name, {"rounds": 0, "sent": 0, "received": 0})
            site["rounds"] += 1
            site["sent"] += given["bytes_received"]
            site["received"] += given["bytes_sent"]
    return sites
