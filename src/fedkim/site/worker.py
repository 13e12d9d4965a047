"""The resident worker: data and torch stay in memory, questions come over a Unix socket that only its owner can open.

Run as ``python -m fedkim.site.worker site.toml --socket PATH --read DIGESTS`` by ``fedkim site join``, which starts it again if it
dies. The digests are those of the files that ``join`` has read: a worker that finds others refuses, and adopts nothing.
"""

import contextlib
import os
import socket
import struct
import sys
import threading
from dataclasses import replace
from pathlib import Path

from fedkim.engines.flower.channel import receive, send
from fedkim.errors import FedkimError
from fedkim.site.answering import Answering, told
from fedkim.site.audit import AuditLog
from fedkim.site.participant import load_participant

_CREDENTIALS = struct.Struct("3i")


def serve(answering: Answering, path: Path) -> None:
    """Answer on ``path`` until the process ends."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        os.chmod(path, 0o600)
        listener.listen(8)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_converse, args=(connection, answering), daemon=True).start()


def _converse(connection: socket.socket, answering: Answering) -> None:
    with connection, contextlib.suppress(OSError):
        _, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user != os.getuid():
            return
        header, body = receive(connection)
        send(connection, *answering.answer(header, body))


def main(arguments: list[str]) -> int:
    """Load, say so, serve; exit status 2 for a mistake in a file, told in one line, 1 for an error of the program."""
    file, _, path, _, *read = arguments
    try:
        site = replace(load_participant(file), read=tuple(read))
        answering = Answering(site, AuditLog(site.audit))
    except Exception as error:
        print(told(error), flush=True)
        return 2 if isinstance(error, FedkimError) else 1
    shard = answering.shard
    kind = "synthetic data" if shard.dataset.synthetic else "data"
    counts = ", ".join(f"{name} {number}" for name, number in shard.examples.items())
    print(f"worker of {site.name}: {kind}, examples by component: {counts}", flush=True)
    serve(answering, Path(path))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
