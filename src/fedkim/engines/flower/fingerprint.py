"""A site's identity: its public key, in the one form in which Flower's nodes carry it."""

from fedkim.errors import FedkimError


def fingerprint(public_key: str) -> bytes:
    """The key of one OpenSSH line as PEM: equal keys give equal bytes, whatever comment stands behind them.

    Raises:
        FedkimError: no public key of an elliptic curve, or the library is missing.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
    except ImportError:
        raise FedkimError("keys", found="no library for them", remedy="pip install 'fedkim[flower]'") from None
    try:
        key = load_ssh_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FedkimError(
            "a site's public key",
            found="something else",
            expected="one line that begins with ecdsa-sha2-nistp",
            remedy="use the line that `fedkim site keys` printed",
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
