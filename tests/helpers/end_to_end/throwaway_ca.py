"""Throw-away certificates, as `fedlora keys` makes them, for any moment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from common.identity.keys import certificates, private_keys

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

    def __init__(self) -> None:
        began = datetime.now(UTC) - timedelta(days=1000)
        self._authority = certificates.new_authority("cardio", private_keys.new_tls_key(), began)

    def server(self, *hosts: str, days_ago: int = 0) -> Pem:
        key = private_keys.new_tls_key()
        made = certificates.make_server_certificate(
            hosts or LOOPBACK, key.public_key(), self._authority, _then(days_ago)
        )
        return self._pem(made, key)

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
