"""A frame over a Unix socket: lengths, a JSON header, a body of bytes. What the process of one message says to the worker.

::

    8 bytes  length of the header, big-endian
    8 bytes  length of the body
    header   JSON object, at most 1 MiB
    body     anything, at most 2 GiB
"""

import json
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOCKET = "FEDKIM_SITE_SOCKET"
"""The environment variable by which `fedkim site join` tells where its worker listens."""

MOST_HEADER = 1 << 20
MOST_BODY = 1 << 31

_LENGTHS = struct.Struct(">QQ")


class ChannelError(OSError):
    """The other end closed in mid-frame, or sent no frame."""


def ask(path: Path, header: Mapping[str, Any], body: bytes = b"", *, timeout: float) -> tuple[dict[str, Any], bytes]:
    """One question to whoever listens on ``path``, and the answer.

    Raises:
        OSError: nobody listens, the answer didn't come in ``timeout`` seconds, or it was no frame.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        send(connection, header, body)
        return receive(connection)


def send(connection: socket.socket, header: Mapping[str, Any], body: bytes = b"") -> None:
    """Write one frame."""
    text = json.dumps(header, allow_nan=False).encode()
    connection.sendall(_LENGTHS.pack(len(text), len(body)) + text)
    if body:  # to a bare header the other end may have answered and hung up by now
        connection.sendall(body)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Read one frame; lengths are checked before anything is allocated.

    Raises:
        ChannelError: it isn't one.
    """
    header_length, body_length = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if header_length > MOST_HEADER or body_length > MOST_BODY:
        raise ChannelError("a frame larger than allowed")
    try:
        header = json.loads(_exactly(connection, header_length))
    except (ValueError, RecursionError):
        raise ChannelError("a header that isn't JSON") from None
    if not isinstance(header, dict):
        raise ChannelError("a header that isn't an object")
    return header, _exactly(connection, body_length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = connection.recv_into(view[filled:])
        if not count:
            raise ChannelError("the other end closed in mid-frame")
        filled += count
    return bytes(data)
