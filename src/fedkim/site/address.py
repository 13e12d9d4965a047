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
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise FedkimError(where, found=repr(address[:80]), expected='"host:port"')
    return host.strip("[]"), int(port)
