"""Workers: processes of our own that take a line of JSON, do the work and answer with a line.

``multiprocessing`` would import the caller's script in each child (and run it, where its author forgot the guard) and
pickle what goes to and fro. A worker here is ``python -m some.module`` with two pipes: it ends when its input does, so
it can't outlive a caller that was killed by more than the work in hand.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from fedkim.errors import FedkimError


class Worker:
    """The caller's end of one process; not for two threads at once."""

    def __init__(self, module: str):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            process_group=0,  # Ctrl-C is the caller's to answer
        )

    def ask(self, request: Mapping[str, Any]) -> None:
        """Have the work done.

        Raises:
            FedkimError: the work's own, or the worker died.
        """
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except (BrokenPipeError, ValueError):
                line = ""
        if not line:
            status = self._process.poll()
            found = "a worker process that ended" + (f" with status {status}" if status is not None else "")
            remedy = "run the same command again (what is done is kept); with run.workers = 1 if memory is short"
            raise FedkimError("decoding", found=found, remedy=remedy)
        answer = json.loads(line)
        if answer:
            raise FedkimError(**answer)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()


_TOLD = ("what", "found", "expected", "remedy", "code")
"""What an error is made of."""


def serve(work: Callable[[Mapping[str, Any]], None]) -> None:
    """The worker's end: do what each line of standard input asks, until there are no more."""
    import torch

    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not look like an answer
    for line in sys.stdin:
        answer: dict[str, str] = {}
        try:
            work(json.loads(line))
        except FedkimError as error:
            answer = {name: text for name in _TOLD if (text := getattr(error, name, ""))}
        print(json.dumps(answer), file=answers, flush=True)
