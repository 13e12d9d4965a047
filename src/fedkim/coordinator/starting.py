"""``fedkim coordinator start``: Flower's SuperLink and the loop in it, started, watched and ended."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedkim.coordinator.app import write_app
from fedkim.coordinator.federation_file import FederationFile, require_sites
from fedkim.coordinator.registering import register
from fedkim.coordinator.standing import MANIFEST, TERMINAL, lives, read_standing, write_standing
from fedkim.engines.flower.processes import (
    Child,
    flower_environment,
    program,
    require_free_port,
    run_to_end,
    wait_for_port,
)
from fedkim.errors import FedkimError
from fedkim.site.address import LOOPBACK
from fedkim.store.files import make_private, write_text
from fedkim.store.lock import Lock

CONNECTION = "coordinator"
BEGINNING = 180.0
"""Seconds from Flower's taking the run to the loop's first sign of life."""


def start(file: FederationFile, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a federation until it ends; gives how it stands then.

    Raises:
        FedkimError: Flower isn't there, another coordinator is, or a program died as it started.
    """
    require_sites(file)
    make_private(file.state)  # Flower's database holds every site's updates
    lock = Lock(
        file.state / "coordinator.lock", f"coordinator of {file.path}", remedy=f"`fedkim stop {file.path.name}` ends it"
    )
    lock.acquire()
    environment = {**flower_environment(file.state / "flower"), MANIFEST: str(file.path)}
    superlink = Child("SuperLink", _superlink(file), file.state / "superlink.log", environment)
    try:
        write_standing(file.state, "starting")
        write_text(file.state / "progress.log", "")
        require_free_port(file.network.host, file.network.port)
        superlink.start()
        host = "127.0.0.1" if file.network.host in ("0.0.0.0", *LOOPBACK) else file.network.host
        wait_for_port(host, file.network.port, superlink, 60)
        say(f"listening on {file.network.host}:{file.network.port} (TLS, sites known by their keys)")
        _write_connection(file, environment, host)
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
        superlink.stop()
        lock.release()


def stop(file: FederationFile) -> int | None:
    """Ask a running coordinator to end; gives its process, or None if there is none."""
    holder = coordinator_process(file.state)
    if holder:
        os.kill(holder, signal.SIGTERM)
    return holder


def coordinator_process(state: Path) -> int | None:
    """The process that holds a federation's lock; a number that stands there but holds no lock may be anybody's by now."""
    lock = Lock(state / "coordinator.lock", f"coordinator in {state}", remedy="`fedkim stop` ends it")
    if not lock.path.exists():
        return None
    try:
        lock.acquire()
    except FedkimError:
        text = lock.path.read_text(encoding="utf-8").strip()
        return int(text) if text.isdigit() else None
    lock.release()
    return None


def _superlink(file: FederationFile) -> list[str]:
    command = [program("flower-superlink"), "--host", file.network.host, "--port", str(file.network.port)]
    command += ["--database", str(file.state / "flower.db"), "--disable-runtime-dependency-installation"]
    assert file.tls is not None
    return [
        *command,
        "--enable-supernode-auth",
        *("--ssl-ca-certfile", str(file.tls.authority)),
        *("--ssl-certfile", str(file.tls.certificate)),
        *("--ssl-keyfile", str(file.tls.key)),
    ]


def _write_connection(file: FederationFile, environment: dict[str, str], host: str) -> None:
    assert file.tls is not None
    trust = f'root-certificates = "{file.tls.authority}"'
    text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{host}:{file.network.port}"\n{trust}\n'
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
