"""X.509 (RFC 5280): an authority of one project, its server's certificate, and one for each node. Times are UTC.

Subjects of servers and nodes are empty, so that a name is only in the critical subject alternative name.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import IdentityError
from common.identity.keys.key_kinds import is_p384, kind_of
from common.identity.keys.private_keys import TlsKey

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
NODE_LIFE = timedelta(days=365)
_SKEW = timedelta(minutes=5)
"""Tolerated difference of clocks: certificates begin this long before they are made."""

PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Authority:
    """The certificate authority of a project, with its private key."""

    certificate: x509.Certificate
    key: TlsKey


def new_authority(project: str, key: TlsKey, now: datetime) -> Authority:
    """Make a self-signed authority that signs servers and nodes, and no other authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fedlora CA {project}")])
    builder = _builder(subject, subject, key.public_key(), now, now + AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Authority(builder.sign(key, SHA384()), key)


def make_server_certificate(
    hosts: Iterable[str], key: PublicKey, authority: Authority, now: datetime
) -> x509.Certificate:
    """Make a server's certificate of 90 days with these names and IP addresses, never past the authority's end."""
    names = [_general_name(host) for host in hosts]
    return _leaf(names, ExtendedKeyUsageOID.SERVER_AUTH, key, authority, now, SERVER_LIFE)


def make_node_certificate(name: str, key: PublicKey, authority: Authority, now: datetime) -> x509.Certificate:
    """Make a node's certificate of 365 days, never past the authority's end."""
    return _leaf([x509.DNSName(name)], ExtendedKeyUsageOID.CLIENT_AUTH, key, authority, now, NODE_LIFE)


def key_hash(key: PublicKey) -> str:
    """Return the SHA-256 of the public key (SPKI, DER) in hexadecimal, which the roster has for each node."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def to_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def from_pem(data: bytes) -> x509.Certificate:
    """Read the first certificate in these bytes.

    Raises:
        IdentityError: no certificate can be read, or its key is not on P-384.
    """
    try:
        certificate = x509.load_pem_x509_certificate(data)
        key = certificate.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, InternalError):
        raise IdentityError("is not a certificate; restore the file that was made with the others") from None
    if is_p384(key):
        return certificate
    raise IdentityError(
        f"is not a certificate of a P-384 key (secp384r1) but of {kind_of(key)}; use those that fedlora keys makes"
    )


def public_key(certificate: x509.Certificate) -> PublicKey:
    """Return the public key of a certificate that `from_pem` has read."""
    key = certificate.public_key()
    assert isinstance(key, PublicKey)
    return key


def subject_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names, DNS names and IP addresses; none if they cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(str(name.value) for name in names)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether the authority's key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InternalError):
        return False
    return True


def check_key(certificate: x509.Certificate, key: TlsKey, path: Path) -> None:
    """Check that a private key, read from `path`, belongs to the certificate.

    Raises:
        IdentityError: it does not.
    """
    if key.public_key() != certificate.public_key():
        raise IdentityError(f"{path} does not belong to its certificate; put back the file that was made with it")


def _leaf(
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    key: PublicKey,
    authority: Authority,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    issuer = authority.certificate
    end = min(now + life, issuer.not_valid_after_utc)
    issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = _builder(x509.Name([]), issuer.subject, key, now, end)
    for extension, critical in (
        (x509.SubjectAlternativeName(names), True),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([purpose]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority.key, SHA384())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _SKEW).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
