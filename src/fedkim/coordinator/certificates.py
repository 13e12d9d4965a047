"""The coordinator's certificates: an authority that the sites trust, and a server's certificate of it."""

import contextlib
import datetime
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedkim.engines.flower.fingerprint import key_formats
from fedkim.errors import FedkimError
from fedkim.site.address import LOOPBACK
from fedkim.site.keys import write_new

if TYPE_CHECKING:
    from cryptography import x509

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9*_\-]{1,63}(?:\.[A-Za-z0-9_\-]{1,63})*")
DAYS = 825
"""How long a certificate holds."""


def make_certificates(folder: Path, hosts: Sequence[str]) -> None:
    """Write an authority (``ca.crt``, for the sites) and a server's certificate and key for ``hosts``.

    The authority's own key is forgotten at once: whoever wants another certificate makes another authority.

    Raises:
        FedkimError: certificates are there already, or the library is missing.
    """
    serialization = key_formats()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)

    def begin(name: str, issuer: str, public: object) -> "x509.CertificateBuilder":
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(public)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=10))
            .not_valid_after(now + datetime.timedelta(days=DAYS))
        )

    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    authority = (
        begin("fedkim federation", "fedkim federation", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    server = (
        begin("fedkim coordinator", "fedkim federation", server_key.public_key())  # hosts' names stand below
        .add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys([*hosts, *LOOPBACK])]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **usage), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_new(
        {
            folder / "server.key": (private, 0o600),
            folder / "ca.crt": (authority.public_bytes(pem), 0o644),
            folder / "server.pem": (server.public_bytes(pem), 0o644),
        }
    )


def require_certificate(path: Path, host: str, where: str, *, key: Path, authority: Path) -> None:
    """Refuse a server's certificate that no program would take: Flower's would say no more than that they can't connect.

    Args:
        path: the certificate's file.
        host: the name or address by which this machine's own programs connect.
        where: what errors call the certificate.
        key: the certificate's own private key.
        authority: that signed it, itself or by certificates in between that stand in either file.

    Raises:
        FedkimError: it can't be read, doesn't hold now, doesn't name the host, has another key, or is of another authority.
    """
    key_formats()
    from cryptography import x509

    again = "move the folder of certificates away, make new ones with `fedkim coordinator keys` (docs/federation.md, Operations)"
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise FedkimError(where, found=f"no certificate in {path}", expected="one in PEM", remedy=again) from None
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= datetime.datetime.now(datetime.UTC) <= ends:
        found = f"one that holds from {begins:%d %B %Y} to {ends:%d %B %Y}"
        raise FedkimError(where, found=found, remedy=f"compare this machine's clock, or {again}")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    wanted = _general_name(host.lower(), where)
    above = x509.DNSName("*." + host.lower().partition(".")[2])
    if wanted not in names and (isinstance(wanted, x509.IPAddress) or above not in names):
        found, expected = f"one that doesn't name {host}", "the address by which the coordinator's own programs connect"
        raise FedkimError(where, found=found, expected=expected, remedy=again)
    _require_family(path, key, authority, where, again)


def _require_family(path: Path, key: Path, authority: Path, where: str, again: str) -> None:
    """Refuse certificate, key and authority that don't belong together."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    certificate, *between = x509.load_pem_x509_certificates(path.read_bytes())
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        own = serialization.load_pem_private_key(key.read_bytes(), password=None).public_key().public_bytes(*form)
    except (OSError, ValueError, TypeError):  # TypeError: it is locked by a password
        raise FedkimError(where, found=f"no private key in {key}", expected="its own, in PEM", remedy=again) from None
    if own != certificate.public_key().public_bytes(*form):
        raise FedkimError(where, found=f"another key in {key}", expected="the certificate's own", remedy=again)
    try:
        trusted = x509.load_pem_x509_certificates(authority.read_bytes())
    except (OSError, ValueError):
        found = f"no certificate in {authority}"
        raise FedkimError(where, found=found, expected="its authority's, in PEM", remedy=again) from None

    def signed_by(issuers: "list[x509.Certificate]") -> "x509.Certificate | None":
        for issuer in issuers:
            with contextlib.suppress(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                certificate.verify_directly_issued_by(issuer)
                return issuer
        return None

    for _ in range(len(between) + 1):  # up the chain, as far as the file has it
        if signed_by(trusted):
            return
        certificate = signed_by(between) or certificate
    found = f"one that the authority in {authority} hasn't signed"
    raise FedkimError(where, found=found, expected="a certificate of that authority", remedy=again)


def _general_name(host: str, where: str = "--host") -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            remedy = "" if host.isascii() else "a name beyond ASCII has another spelling for machines (xn--…)"
            raise FedkimError(where, found=repr(host), expected="a host's name or address", remedy=remedy) from None
        return x509.DNSName(host)
