"""Who may take part: Flower's nodes brought to the manifest's sites at every start."""

import json
import sys
from collections.abc import Callable

from fedkim.coordinator.federation_file import FederationFile
from fedkim.engines.flower.processes import run_to_end
from fedkim.errors import FedkimError


def register(file: FederationFile, environment: dict[str, str], connection: str, say: Callable[[str], None]) -> None:
    """Register each site's key once, remove those that left the manifest; they are refused from then on.

    Raises:
        FedkimError: Flower can't be reached, or a key was removed here before: it never comes back.
    """
    sites = {name: member.public_key for name, member in file.sites.items()}
    command = [sys.executable, "-m", "fedkim.coordinator.nodes", connection]
    told = run_to_end(command, environment, "registering the sites", given=json.dumps(sites))
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
