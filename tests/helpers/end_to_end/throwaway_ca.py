"""Throw-away certificates, as `fedlora keys` makes them, for any moment."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.identity.keys import certificates, private_keys
from common.identity.keys.certificates import Authority

LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pem:
    """One end of a connection."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    @property
    def key_hash(self) -> str:
        return certificates.key_hash(certificates.public_key(certificates.from_pem(self.certificate_pem)))


class TestAuthority:
    """A project's certificate authority."""

    __test__ = False

    def __init__(self, authority: Authority | None = None) -> None:
        began = datetime.now(UTC) - timedelta(days=1000)
        self._authority = authority or certificates.new_authority("cardio", private_keys.new_tls_key(), began)

    def server(self, *hosts: str, days_ago: int = 0) -> Pem:
        key = private_keys.new_tls_key()
        made = certificates.make_server_certificate(
            hosts or LOOPBACK, key.public_key(), self._authority, _then(days_ago)
        )
        return self._pem(made, key)

    def odd_server(
        self,
        names: Iterable[x509.GeneralName] = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))),
        common_name: str = "",
        ca: bool | None = False,
        usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    ) -> Pem:
        """Make a server's certificate, of parts that `fedlora keys` does not make; None and no names: left out."""
        key, issuer, now = private_keys.new_tls_key(), self._authority, datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.certificate.subject)
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(_then(1)).not_valid_after(now + timedelta(days=9))
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if ca is not None:
            made = made.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if usage is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return self._pem(made.sign(issuer.key, SHA384()), key)

    def node(self, name: str, days_ago: int = 0) -> Pem:
        key = private_keys.new_tls_key()
        return self._pem(
            certificates.make_node_certificate(name, key.public_key(), self._authority, _then(days_ago)), key
        )

    def _pem(self, certificate, key) -> Pem:
        ca = certificates.to_pem(self._authority.certificate)
        return Pem(ca, certificates.to_pem(certificate), private_keys.to_plain_pem(key))


def _then(days_ago: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days_ago)
