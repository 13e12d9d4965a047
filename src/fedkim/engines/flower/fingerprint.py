"""A site's identity: its public key, in the one form in which Flower's nodes carry it."""

from typing import Any

from fedkim.errors import FedkimError, install_extra


def key_formats() -> Any:
    """The forms in which keys are written and read: ``serialization`` of cryptography.

    Raises:
        FedkimError: the library is missing.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        remedy = install_extra("flower")
        raise FedkimError("keys", found="no library for them", remedy=remedy) from None
    return serialization


def fingerprint(public_key: str) -> bytes:
    """The key of one OpenSSH line as PEM: equal keys give equal bytes, whatever comment stands behind them.

    Raises:
        FedkimError: no public key of an elliptic curve, or the library is missing.
    """
    formats = key_formats()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = formats.load_ssh_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FedkimError(
            "a site's public key",
            found="something else",
            expected="one line that begins with ecdsa-sha2-nistp",
            remedy="use the line that `fedkim site keys` printed",
        )
    pem: bytes = key.public_bytes(formats.Encoding.PEM, formats.PublicFormat.SubjectPublicKeyInfo)
    return pem
