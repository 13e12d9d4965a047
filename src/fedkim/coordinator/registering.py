"""Who may take part: Flower's nodes brought to the manifest's sites at every start, and Flower's commands run."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

from fedkim.coordinator.federation_file import FederationFile
from fedkim.engines.flower.processes import program
from fedkim.errors import FedkimError

COMMAND_SECONDS = 120.0


def register(file: FederationFile, environment: dict[str, str], connection: str, say: Callable[[str], None]) -> None:
    """Register each site's key once, remove those that left the manifest; they are refused from then on.

    Raises:
        FedkimError: Flower can't be reached, or a key was removed here before: it never comes back.
    """
    sites = {name: member.public_key for name, member in file.sites.items()}
    command = [sys.executable, "-m", "fedkim.coordinator.nodes", connection]
    told = _run(command, environment, "registering the sites", given=json.dumps(sites))
    done = json.loads(told.splitlines()[-1])
    if done["refused"]:
        raise FedkimError(
            f"the key of {', '.join(done['refused'])}",
            found="one that was registered here before, and removed",
            expected="a key of its own: one that was removed stays refused",
            remedy="`fedkim site keys` there, then remove-site and add-site with the new key",
        )
    for name in done["registered"]:
        say(f"{name} is registered")
    if done["removed"]:
        say(f"{done['removed']} keys that left the manifest are registered no more")


def flwr(arguments: Sequence[str], environment: dict[str, str], what: str) -> str:
    """What one of Flower's commands prints.

    Raises:
        FedkimError: it failed, or didn't end.
    """
    return _run([program("flwr"), *arguments], environment, what)


def _run(command: Sequence[str], environment: dict[str, str], what: str, given: str = "") -> str:
    again = "start again: it resumes"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, input=given
        )
    except subprocess.TimeoutExpired:
        raise FedkimError(what, found=f"no end after {COMMAND_SECONDS:g} s", remedy=again) from None
    if done.returncode or '"success": false' in done.stdout:
        found = " ".join((done.stdout + done.stderr).split())[-300:]
        raise FedkimError(what, found=found or f"status {done.returncode}", remedy=again)
    return done.stdout
