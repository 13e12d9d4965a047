"""Flower's list of nodes, brought to the manifest's: each site's key registered once, those that left refused from then on.

``registered.json`` says which of Flower's nodes is whose, for Flower's own commands show neither names nor keys. A site is
written there before Flower is asked, so a process that dies between Flower's answer and the note loses nothing: the next start
takes the node that no note names.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedkim.coordinator.federation_file import FederationFile
from fedkim.engines.flower.fingerprint import fingerprint
from fedkim.engines.flower.processes import program
from fedkim.errors import FedkimError
from fedkim.store.files import write_text

COMMAND_SECONDS = 120.0
_USED = "already in use"
_GONE = "unregistered"


def register(file: FederationFile, environment: dict[str, str], connection: str, say: Callable[[str], None]) -> None:
    """Register who came, unregister who left the manifest or has another key there.

    Raises:
        FedkimError: Flower refuses; above all a key that was registered before and removed, which never comes back.
    """
    notes = file.state / "registered.json"
    known: dict[str, dict[str, str]] = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    for note in known.values():
        if not note["node"]:
            note["node"] = _unnamed(known, environment, connection)
            _write(notes, known)
    for name, note in list(known.items()):
        if name not in file.sites or file.sites[name].public_key != note["public_key"]:
            if note["node"]:
                flwr(["supernode", "unregister", note["node"], connection], environment, f"removing {name}")
                say(f"{name} is registered no more")
            del known[name]
            _write(notes, known)
    for name, member in file.sites.items():
        if known.get(name, {}).get("node"):
            continue
        fingerprint(member.public_key)
        path = file.state / f"{name}.pub"
        write_text(path, member.public_key + "\n")
        known[name] = {"public_key": member.public_key, "node": ""}
        _write(notes, known)
        command = ["supernode", "register", str(path), connection, "--name", name, "--format", "json"]
        try:
            told = flwr(command, environment, f"registering {name}")
        except FedkimError as error:
            del known[name]
            _write(notes, known)
            if _USED in str(error):
                raise FedkimError(
                    f"the key of {name}",
                    found="one that was registered here before, and removed",
                    expected="a key of its own: one that was removed stays refused",
                    remedy=f"`fedkim site keys` at {name}, then remove-site and add-site with the new key",
                ) from None
            raise
        known[name]["node"] = _node(told, name)
        _write(notes, known)
        say(f"{name} is registered")


def flwr(arguments: list[str], environment: dict[str, str], what: str) -> str:
    """What one of Flower's commands prints.

    Raises:
        FedkimError: it failed, or didn't end.
    """
    try:
        done = subprocess.run(
            [program("flwr"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise FedkimError(what, found=f"no end after {COMMAND_SECONDS:g} s", remedy="start again: it resumes") from None
    if done.returncode or '"success": false' in done.stdout:
        raise FedkimError(what, found=" ".join((done.stdout + done.stderr).split())[-300:])
    return done.stdout


def _unnamed(known: dict[str, dict[str, str]], environment: dict[str, str], connection: str) -> str:
    """The node that Flower has and no note names, if there is one: sites are registered one after the other."""
    told = flwr(["supernode", "list", connection, "--format", "json"], environment, "Flower's list of nodes")
    noted = {note["node"] for note in known.values()}
    nodes = [str(node["node-id"]) for node in _read(told, "Flower's list of nodes")["nodes"] if node["status"] != _GONE]
    unnamed = [node for node in nodes if node not in noted]
    if len(unnamed) > 1:
        raise FedkimError(
            "Flower's list of nodes",
            found=f"{len(unnamed)} that no note names",
            expected="at most one, cut off while it was noted",
        )
    return unnamed[0] if unnamed else ""


def _node(told: str, name: str) -> str:
    record = _read(told, f"registering {name}")
    return str(record.get("node-id") or record["node_id"])


def _read(told: str, what: str) -> Any:
    try:
        return json.loads(told[told.index("{") :])
    except ValueError:
        raise FedkimError(what, found="an unexpected answer of Flower's") from None


def _write(notes: Path, known: dict[str, dict[str, str]]) -> None:
    write_text(notes, json.dumps(known, indent=1))
