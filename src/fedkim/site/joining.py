"""``fedkim site join``: the worker and Flower's SuperNode, started and watched until somebody ends them."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fedkim.engines.flower.channel import SOCKET
from fedkim.engines.flower.processes import Child, flower_environment, free_port, program
from fedkim.errors import FedkimError
from fedkim.site.address import split_address
from fedkim.site.participant import Participant
from fedkim.store.lock import Lock

LONGEST = 100
"""Bytes of a Unix socket's path; the system takes a few more."""
LOADING = 3600.0
"""Seconds that reading a hospital's data may take."""
RESTARTS = 5
"""A program that ended so often in :data:`WITHIN` seconds isn't started again."""
WITHIN = 120.0


def join(site: Participant, say: Callable[[str], None]) -> None:
    """Take part in a federation until interrupted.

    Raises:
        FedkimError: the site can't take part, another process is at it, or a program keeps ending.
    """
    site.recipe()
    coordinator = site.coordinator
    if coordinator is None:
        raise FedkimError(f"{site.path}", found="no table [coordinator]", expected="an address and a key")
    site.records.mkdir(parents=True, exist_ok=True)
    lock = Lock(site.records / "site.lock", f"site {site.name!r}", remedy="it takes part already: end that one first")
    lock.acquire()
    socket, elsewhere = site.records / "worker.socket", None
    if len(os.fsencode(socket)) > LONGEST:
        elsewhere = tempfile.mkdtemp(prefix="fedkim-")
        socket = Path(elsewhere) / "worker.socket"
    socket.unlink(missing_ok=True)
    environment = {**flower_environment(site.records / "flower"), SOCKET: str(socket)}
    worker = Child(
        "worker",
        [sys.executable, "-m", "fedkim.site.worker", str(site.path), "--socket", str(socket)],
        site.records / "worker.log",
        environment,
    )
    node = Child("SuperNode", _supernode(site), site.records / "supernode.log", environment)
    try:
        worker.start()
        _wait_for(worker, socket)
        say(worker.last_words(1))
        node.start()
        say(f"{site.name} is joining {coordinator.address} (TLS); logs in {site.records}")
        while True:
            for child in (worker, node):
                if not child.alive:
                    _again(child, say)
            time.sleep(1.0)
    finally:
        node.stop()
        worker.stop()
        socket.unlink(missing_ok=True)
        if elsewhere:
            shutil.rmtree(elsewhere, ignore_errors=True)
        lock.release()


def _supernode(site: Participant) -> list[str]:
    coordinator = site.coordinator
    assert coordinator is not None
    host, port = split_address(coordinator.address, "address")
    return [
        program("flower-supernode"),
        *("--superlink", f"{host}:{port}"),
        *("--port", str(free_port())),
        *("--root-certificates", str(coordinator.certificate)),
        *("--auth-supernode-private-key", str(coordinator.key)),
    ]


def _wait_for(worker: Child, socket: Path) -> None:
    end = time.monotonic() + LOADING
    while not socket.exists():
        if not worker.alive:
            last = worker.last_words(1)
            raise FedkimError(
                "worker", found=last.removeprefix("fedkim: error: ") or "ended", remedy=f"see {worker.log}"
            )
        if time.monotonic() > end:
            raise FedkimError("worker", found=f"data not read after {LOADING:g} s", remedy=f"see {worker.log}")
        time.sleep(0.1)


def _again(child: Child, say: Callable[[str], None]) -> None:
    now = time.monotonic()
    recent = [moment for moment in child.started if now - moment < WITHIN]
    unknown_key = "Failed to activate SuperNode" in child.last_words(15)
    if unknown_key and len(recent) >= RESTARTS:
        raise FedkimError(
            "coordinator",
            found="no site with this key in its manifest",
            expected="this site's public key",
            remedy="send it the line that `fedkim site keys` printed; it takes it in at its next start",
        )
    if len(recent) >= RESTARTS:
        raise FedkimError(
            child.name,
            found=f"ended {len(recent)} times in {WITHIN:g} s: {child.last_words(2)}",
            remedy=f"see {child.log}",
        )
    status = child.process.returncode if child.process else None
    reason = "the coordinator doesn't know this key" if unknown_key else f"status {status}"
    say(f"{child.name} ended: {reason}; starting it again")
    time.sleep(min(10.0, 1.0 * 2 ** (len(recent) - 1)))
    child.start()
