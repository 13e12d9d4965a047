"""Where a coordinator is reached: ``host:port``."""

from fedkim.errors import FedkimError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""This machine alone."""


def joined_address(host: str, port: int) -> str:
    """``"host:port"``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str, where: str) -> tuple[str, int]:
    """``("host", port)`` of ``"host:port"``.

    Raises:
        FedkimError: it isn't one.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not bare or not digits or not 0 < int(port) < 65536 or (":" in bare and bare == host):
        expected = '"host:port", an IPv6 address in brackets: "[::1]:8000"'
        raise FedkimError(where, found=repr(address[:80]), expected=expected)
    return bare, int(port)
