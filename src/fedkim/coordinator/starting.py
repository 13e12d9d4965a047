"""``fedkim coordinator start``: Flower's SuperLink and the loop in it, started, watched and ended."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedkim.coordinator.app import write_app
from fedkim.coordinator.certificates import require_certificate
from fedkim.coordinator.federation_file import FederationFile, require_sites
from fedkim.coordinator.registering import register
from fedkim.coordinator.standing import (
    MANIFEST,
    TERMINAL,
    read_standing,
    require_access,
    write_standing,
)
from fedkim.engines.flower.processes import (
    Child,
    flower_environment,
    program,
    require_flower,
    require_free_port,
    run_to_end,
    wait_for_port,
)
from fedkim.errors import FedkimError
from fedkim.site.address import joined_address
from fedkim.store.files import make_private, write_text
from fedkim.store.lock import Lock, lives, lock_holder
from fedkim.store.run_folder import RunFolder

CONNECTION = "coordinator"
BEGINNING = 180.0
"""Seconds from Flower's taking the run to the loop's first sign of life."""
_REACHED = {"0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "::1"}
"""Where programs of this machine reach one that listens there; elsewhere, under the same address."""


def start(file: FederationFile, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a federation until it ends; gives how it stands then.

    Raises:
        FedkimError: Flower isn't there, another coordinator is, its certificate isn't for this machine or not for this day, or a
            program died as it started; the run's folder holds another recipe's.
    """
    require_sites(file)
    assert file.tls is not None  # so require_sites saw to it
    where = f"{file.path}: [tls] certificate"
    require_certificate(file.tls.certificate, _reached(file), where, key=file.tls.key, authority=file.tls.authority)
    _require_same_recipe(file)
    make_private(file.state)  # Flower's database holds every site's updates
    lock = Lock(
        file.state / "coordinator.lock", f"coordinator of {file.path}", remedy=f"`fedkim stop {file.path.name}` ends it"
    )
    lock.acquire()
    superlink: Child | None = None
    try:
        write_standing(file.state, "starting")
        _tell_new_run(file, say)
        environment = {**flower_environment(file.state / "flower"), MANIFEST: str(file.path)}
        superlink = Child("SuperLink", _superlink(file), file.state / "superlink.log", environment)
        write_text(file.state / "progress.log", "")
        require_free_port(file.network.host, file.network.port)
        superlink.start()
        wait_for_port(_reached(file), file.network.port, superlink, 60)
        say(f"listening on {joined_address(file.network.host, file.network.port)} (TLS, sites known by their keys)")
        _write_connection(file, environment)
        register(file, environment, CONNECTION, say)
        app = write_app(file.state / "app")
        run_to_end([program("flwr"), "run", str(app), CONNECTION], environment, "starting the run")
        say(f"the run has begun; {len(file.sites)} sites are in the manifest")
        return _watch(file, superlink, say)
    except BaseException as error:
        if read_standing(file.state).get("state") not in TERMINAL:
            kind = "failed" if isinstance(error, FedkimError) else "stopped"
            write_standing(file.state, kind, reason=str(error) or "stopped; the same command resumes")
        raise
    finally:
        if superlink:
            superlink.stop()
        lock.release()


def _require_same_recipe(file: FederationFile) -> None:
    """Refuse another recipe's run before anything starts: how that run stands would be overwritten."""
    if not (file.out / "recipe.json").is_file():
        return
    if RunFolder(file.out).recipe().digest() != file.run_recipe.digest():
        remedy = "put the recipe back, or begin anew in another folder: [recipe] out of the manifest"
        raise FedkimError(f"run folder {file.out}", found="the run of another recipe", remedy=remedy)


def _tell_new_run(file: FederationFile, say: Callable[[str], None]) -> None:
    """Say that rounds of an earlier run are gone, rather than count from 1 again in silence."""
    if (file.state / "run-name").exists() and not (file.out / "recipe.json").is_file():
        say(f"no run in {file.out} any more: another one begins at round 1, under another name to the sites")


def stop(state: Path) -> int | None:
    """Ask a running coordinator to end, by its network folder; gives its process, or None if there is none.

    Raises:
        FedkimError: it is another account's.
    """
    require_access(state)
    holder = lock_holder(state / "coordinator.lock")
    if holder is None:
        return None
    try:
        os.kill(holder, signal.SIGTERM)
    except ProcessLookupError:
        return None  # it ended between the two looks
    except PermissionError:
        remedy = "stop it as the account that started it"
        raise FedkimError(f"process {holder}", found="a coordinator of another account", remedy=remedy) from None
    return holder


def _superlink(file: FederationFile) -> list[str]:
    require_flower()
    assert file.tls is not None
    return [
        *(sys.executable, "-m", "fedkim.coordinator.superlink"),
        *("--host", file.network.host, "--port", str(file.network.port)),
        *("--database", str(file.state / "flower.db")),
        "--disable-runtime-dependency-installation",
        "--enable-supernode-auth",
        *("--ssl-ca-certfile", str(file.tls.authority)),
        *("--ssl-certfile", str(file.tls.certificate)),
        *("--ssl-keyfile", str(file.tls.key)),
    ]


def _reached(file: FederationFile) -> str:
    return _REACHED.get(file.network.host, file.network.host)


def _write_connection(file: FederationFile, environment: dict[str, str]) -> None:
    assert file.tls is not None
    address = joined_address(_reached(file), file.network.port)
    trust = f'root-certificates = "{file.tls.authority}"'
    text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{address}"\n{trust}\n'
    write_text(Path(environment["FLWR_HOME"]) / "config.toml", text)


def _watch(file: FederationFile, superlink: Child, say: Callable[[str], None]) -> dict[str, Any]:
    """Relay progress until the run is in a terminal state or the SuperLink is gone."""
    log = file.state / "progress.log"
    told, began = 0, time.monotonic()
    while True:
        standing = read_standing(file.state)
        if log.exists() and log.stat().st_size > told:
            with open(log, "rb") as text:
                text.seek(told)
                whole = text.read().rpartition(b"\n")[0]
            told += len(whole) + 1 if whole else 0
            for line in whole.decode(errors="replace").split("\n") if whole else ():
                say(line)
        if standing.get("state") in TERMINAL:
            return standing
        if not superlink.alive:
            raise FedkimError("SuperLink", found="dead", remedy=f"see {superlink.log}; the same command resumes")
        beginning = standing.get("state") == "starting"
        late = beginning and time.monotonic() - began > BEGINNING
        dead = not beginning and not lives(int(standing.get("process", 0)))
        if dead and read_standing(file.state).get("state") in TERMINAL:
            continue  # it ended between the two looks
        if late or dead:
            raise FedkimError(
                "the federation's loop",
                found=f"no sign of life after {BEGINNING:g} s" if late else "dead",
                remedy=f"see {superlink.log}; the same command resumes",
            )
        time.sleep(0.5)
