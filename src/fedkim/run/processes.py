"""Processes that run side by side, so that an interrupted parent takes them along."""

import subprocess
import threading
from collections.abc import Mapping, Sequence


class Processes:
    """Those started so far; once stopped, no further one starts."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def start(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, keep_errors: bool = False
    ) -> subprocess.Popen[bytes] | None:
        """The process, without an output; None after :meth:`stop`.

        Args:
            command: the program and its arguments.
            environment: in place of this process's own.
            keep_errors: its errors are for the caller to read, and aren't shown.
        """
        with self._lock:
            if self._stopped:
                return None
            errors = subprocess.PIPE if keep_errors else None
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
            self._running.append(process)
        return process

    def stop(self) -> None:
        """End them all."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    process.terminate()
