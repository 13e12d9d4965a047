"""Pseudonyms: keyed hashes in place of a hospital's patient ids, so that no file of a run holds one.

The key is made at the site, stays in ``site.key`` beside the site file (readable by its owner alone) and never leaves. Without it
a pseudonym can't be traced back by trying all record numbers, and two sites' pseudonyms of one patient differ.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from fedkim.errors import FedkimError

KEY_FILE = "site.key"


def pseudonym(key: bytes, patient: str) -> str:
    """Sixteen letters that stand for ``patient``, always the same under one key."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:16]


def site_key(folder: Path, *, create: bool) -> bytes:
    """The site's key; made where it is missing, or (not ``create``) one that is forgotten at once.

    Raises:
        FedkimError: the key can't be read or written, is damaged, or others may read it.
    """
    path = folder / KEY_FILE
    what = f"key file {path.name}"
    try:
        if not path.exists():
            return _new(path) if create else secrets.token_bytes(32)
        if path.stat().st_mode & 0o077:
            raise FedkimError(
                what, found="one that others may read", expected="only its owner", remedy=f"chmod 600 {path.name}",
                code="E-KEY",
            )  # fmt: skip
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FedkimError:
        raise
    except (OSError, ValueError) as error:
        found, remedy = f"unreadable ({type(error).__name__})", "put the key back: a new one deals the patients anew"
        raise FedkimError(what, found=found, remedy=remedy, code="E-KEY") from None
    if len(key) != 32:
        raise FedkimError(what, found=f"{len(key)} bytes", expected="32", remedy="put the key back", code="E-KEY")
    return key


def _new(path: Path) -> bytes:
    key = secrets.token_bytes(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another process was first
        return site_key(path.parent, create=False)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
    return key
