"""Flower's programs, started and watched: a child never outlives its parent, writes to a log, and calls nobody else's server."""

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from fedkim.errors import FedkimError, install_extra

_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""

COMMAND_SECONDS = 120.0
"""For a program that is to end by itself."""

TESTED = ((1, 41), (1, 43))
"""From this version of Flower up to, not including, that one."""


@dataclass
class Child:
    """A program under supervision."""

    name: str
    command: Sequence[str] | Callable[[], Sequence[str]]
    """A function is asked at each start, for what may change: a port that is free."""
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: list[float] = field(default_factory=list)
    log_start: int = 0
    """Where in the log the words of its last start begin."""

    def start(self) -> None:
        """Start it in a session of its own, its output appended to the log."""
        self.started.append(time.monotonic())
        with open(self.log, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                list(self.command() if callable(self.command) else self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, grace: float = 8.0) -> None:
        """SIGTERM to it and what it started in its own session; SIGKILL after the grace.

        The SuperLink's SuperExec has a session of its own: it watches the SuperLink (``--parent-pid``) and ends by itself.
        """
        if self.process is None:
            return
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.process = None

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, of nothing before its last start."""
        with contextlib.suppress(OSError), open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.log_start)
            return " | ".join(log.read().splitlines()[-lines:])
        return ""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def flower_environment(home: Path) -> dict[str, str]:
    """The environment for any of Flower's programs: a home of its own, no telemetry, no look for updates, no Ray."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
        # they speak to each other on this machine: no proxy of the house may come between
        **{name: _not_by_proxy(name) for name in ("NO_PROXY", "no_proxy")},
        # Flower's programs start each other by name
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }


def _not_by_proxy(name: str) -> str:
    given = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
    return ",".join(dict.fromkeys([*given, "127.0.0.1", "localhost", "::1"]))


_INSTALL = install_extra("flower")


def require_flower() -> None:
    """Refuse to go on without Flower of a version that this was tested with.

    Raises:
        FedkimError: Flower isn't installed, or it is another version.
    """
    try:
        version = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        raise FedkimError("Flower", found="not installed", remedy=_INSTALL) from None
    number = tuple(int(part) for part in version.split(".")[:2])
    if not TESTED[0] <= number < TESTED[1]:
        expected = f"from {TESTED[0][0]}.{TESTED[0][1]} up to, not including, {TESTED[1][0]}.{TESTED[1][1]}"
        raise FedkimError("Flower", found=version, expected=expected, remedy=_INSTALL)


def program(name: str) -> str:
    """The full path of one of Flower's programs, of a version that this was tested with.

    Raises:
        FedkimError: as :func:`require_flower`, or there is no such program.
    """
    require_flower()
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if not found:
        raise FedkimError(f"program {name}", found="nowhere", remedy=_INSTALL)
    return found


def run_to_end(command: Sequence[str], environment: Mapping[str, str], what: str, *, given: str = "") -> str:
    """What a program prints that ends by itself; ``given`` stands on its stdin.

    Raises:
        FedkimError: it failed, or didn't end in :data:`COMMAND_SECONDS`.
    """
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


def wait_for_port(host: str, port: int, child: Child, seconds: float) -> None:
    """Wait until something listens.

    Raises:
        FedkimError: the child died, or the time is up.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connected = False
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            connected = True
        if not child.alive:
            raise FedkimError(child.name, found="ended as it started", remedy=f"see {child.log}")
        if connected:
            return
        time.sleep(0.2)
    raise FedkimError(child.name, found=f"not listening on port {port} after {seconds:g} s", remedy=f"see {child.log}")


def require_free_port(host: str, port: int) -> None:
    """Refuse a port on which another program listens: it would be taken for ours.

    Raises:
        FedkimError: it can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            found = "another program that listens there" if error.errno == errno.EADDRINUSE else error.strerror
            remedy = "end it, or choose another [network] host and port"
            raise FedkimError(f"port {port} of {host}", found=found or "unusable", remedy=remedy) from None


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
