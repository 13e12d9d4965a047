"""Ctrl-C and SIGTERM: stop between two steps if possible, at once if asked twice, within ten seconds in any case."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE = 10.0
"""Seconds a signalled process has to unwind. Cutting it off is safe: rounds are committed whole or not at all."""


class Terminated(BaseException):
    """SIGTERM arrived."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into an exception of the main thread; the second ends the process."""
    signalled = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if signalled.is_set():
            os._exit(128 + number)
        signalled.set()
        timer = threading.Timer(GRACE, os._exit, args=(128 + number,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not signalled.is_set():  # else the timer guards what is left of the process's life
            for number, handler in before.items():
                signal.signal(number, handler)
