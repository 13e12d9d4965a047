"""``fedkim site join``: the worker and Flower's SuperNode, started and watched until somebody ends them."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedkim.engines.flower.channel import SOCKET
from fedkim.engines.flower.processes import Child, flower_environment, free_port, program
from fedkim.errors import FedkimError
from fedkim.site.address import joined_address, split_address
from fedkim.site.participant import Coordinator, Participant, require_pem
from fedkim.store.files import make_private
from fedkim.store.lock import Lock

LONGEST = 100
"""Bytes of a Unix socket's path; the system takes a few more."""
LOADING = 3600.0
"""Seconds that reading a hospital's data may take."""
RESTARTS = 5
"""A program that ended so often in :data:`WITHIN` seconds isn't started again."""
WITHIN = 120.0
REFUSED = 300.0
"""Seconds for which a coordinator that refuses this site is asked again: it registers the sites one after the other, and takes a site
that was cut off for connected for a minute longer."""
SILENT = 30.0
"""Seconds after which it is said that nobody answers."""
_UNANSWERED = "Connection attempt failed, retrying"
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED": "the coordinator's certificate isn't of the authority in [coordinator] certificate, or doesn't name "
    "the address",
    "PermissionError": "a file that this account may not read",
}
"""What the SuperNode's log holds, and what it means; its last lines are always those of its end."""
_REFUSAL = "Failed to activate SuperNode"


def join(site: Participant, say: Callable[[str], None]) -> None:
    """Take part in a federation until interrupted.

    Raises:
        FedkimError: the site can't take part, another process is at it, or a program keeps ending.
    """
    site.recipe()
    coordinator = site.coordinator
    if coordinator is None:
        raise FedkimError(f"{site.path}", found="no table [coordinator]", expected="an address and a key")
    for kind, path in (("key", coordinator.key), ("certificate", coordinator.certificate)):
        require_pem(path, kind, f"{site.path}: [coordinator] {kind}")
    supernode = partial(_supernode, program("flower-supernode"), coordinator)
    make_private(site.records)
    lock = Lock(site.records / "site.lock", f"site {site.name!r}", remedy="it takes part already: end that one first")
    with contextlib.ExitStack() as undone:
        lock.acquire()
        undone.callback(lock.release)
        socket = _socket(site.records, undone)
        environment = {**flower_environment(site.records / "flower"), SOCKET: str(socket)}
        worker = Child("worker", _worker(site, socket), site.records / "worker.log", environment)
        node = Child("SuperNode", supernode, site.records / "supernode.log", environment)
        watch = _Watch(say)
        undone.callback(worker.stop)
        undone.callback(node.stop)
        worker.start()
        _wait_for(worker, socket)
        say(worker.last_words(1))
        node.start()
        say(f"{site.name} is joining {coordinator.address} (TLS); logs in {site.records}")
        began, told = time.monotonic(), False
        while True:
            if not told and time.monotonic() - began > SILENT:
                told = True
                if _UNANSWERED in node.last_words(3):
                    say(
                        f"nobody answers at {coordinator.address} so far; waiting (is the address right, has the coordinator begun?)"
                    )
            for child in (worker, node):
                if not child.alive:
                    watch.again(child)
            time.sleep(1.0)


def _socket(records: Path, undone: contextlib.ExitStack) -> Path:
    """Where the worker is to listen: nothing is there, nor will be afterwards."""
    socket = records / "worker.socket"
    if len(os.fsencode(socket)) > LONGEST:
        elsewhere = tempfile.TemporaryDirectory(prefix="fedkim-", ignore_cleanup_errors=True)
        socket = Path(undone.enter_context(elsewhere)) / "worker.socket"
    socket.unlink(missing_ok=True)
    undone.callback(socket.unlink, missing_ok=True)
    return socket


def _worker(site: Participant, socket: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "fedkim.site.worker", str(site.path)),
        *("--socket", str(socket)),
        *("--read", *site.read),
    ]


def _supernode(executable: str, coordinator: Coordinator) -> list[str]:
    host, port = split_address(coordinator.address, "address")
    return [
        executable,
        *("--superlink", joined_address(host, port)),
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


class _Watch:
    """Starts programs again that ended, as long as that makes sense."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.refused_since = say, dict[str, float]()

    def again(self, child: Child) -> None:
        """Start it again after a while.

        Raises:
            FedkimError: it keeps ending, or the coordinator keeps refusing this site.
        """
        now = time.monotonic()
        recent = [moment for moment in child.started if now - moment < WITHIN]
        status = child.process.returncode if child.process else None
        if _REFUSAL in child.last_words(15):
            since = self.refused_since.setdefault(child.name, now)
            if now - since > REFUSED:
                raise FedkimError(
                    "coordinator",
                    found=f"this site refused for {REFUSED:g} s",
                    expected="this site's public key in its manifest, and one process alone that joins with it",
                    remedy="send it the line that `fedkim site keys` printed, and let it start again; end other processes that join with this key",
                )
            reason = (
                "refused by the coordinator, which doesn't know its key yet, or takes it for connected: for a minute after it was cut off, "
                "or because it joins from elsewhere too"
            )
        elif len(recent) >= RESTARTS:
            raise FedkimError(
                child.name,
                found=f"ended {len(recent)} times in {WITHIN:g} s: {_cause(child) or child.last_words(2)}",
                remedy=f"see {child.log}" + (f"; {_CLOCK}" if status == 0 and not _cause(child) else ""),
            )
        else:
            reason = _cause(child) or f"status {status}" + (f"; {_CLOCK}" if status == 0 else "")
        if _REFUSAL not in child.last_words(15):
            self.refused_since.pop(child.name, None)
        self.say(f"{child.name} ended: {reason}; starting it again")
        time.sleep(min(10.0, 1.0 * 2 ** (len(recent) - 1)))
        child.start()


def _cause(child: Child) -> str:
    """What its log says that we know, of its last start."""
    words = child.last_words(200)
    return next((meaning for sign, meaning in _CAUSES.items() if sign in words), "")


_CLOCK = "if nobody ended it, compare this machine's clock with the coordinator's: five seconds ahead and five minutes behind are refused"
