"""A site's key pair, and how key files are written: for their owner alone, never over one that is there, a pair whole or not at all."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from fedkim.engines.flower.fingerprint import key_formats
from fedkim.errors import FedkimError


def make_site_keys(path: Path) -> str:
    """Write a site's private key to ``path`` and its public key beside it; gives the public line.

    Raises:
        FedkimError: a key is there already, or the library is missing.
    """
    serialization = key_formats()
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write_new({path: (private, 0o600), path.with_name(path.name + ".pub"): (line + b"\n", 0o644)})
    return line.decode()


def write_new(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Write files with their modes, all or none: half a pair would be in the way of the next try."""
    for path in files:
        if os.path.lexists(path):
            raise _taken(path)
    made: list[Path] = []
    try:
        for path, (data, mode) in files.items():
            if not path.parent.is_dir():  # a file of that name is no folder, and no key
                path.parent.mkdir(parents=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except OSError as error:
        for other in made:
            with contextlib.suppress(OSError):
                other.unlink()
        if isinstance(error, FileExistsError) and os.path.lexists(path) and path.parent.is_dir():
            raise _taken(path) from None
        raise FedkimError(f"file {path}", found=error.strerror or "unwritable") from None


def _taken(path: Path) -> FedkimError:
    remedy = "move it away first: whoever knows its public half would be lost"
    return FedkimError(f"file {path}", found="one already", remedy=remedy)
