"""Certificates, as OpenSSL's program and its TLS see them."""

import shutil
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from common.errors import IdentityError
from common.identity import credentials
from common.identity.keys import certificates, private_keys
from tests.helpers.common.identity_parties import HOSTS, NOW, days_ago, new_node, new_project

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the certificates and keys of a server, a node, and a stranger with another authority."""
    folder = tmp_path_factory.mktemp("pems")
    for who in ("own", "strange"):
        operator = new_project(folder / f"{who}-project")
        server = credentials.load_server_credentials(operator)
        node = credentials.load_node_credentials(new_node(operator, folder / f"{who}-keys"), "hospital-a")
        (folder / f"{who}-ca.pem").write_bytes(server.ca_pem)
        for name, party in (("server", server), ("node", node)):
            (folder / f"{who}-{name}.pem").write_bytes(party.certificate_pem)
            (folder / f"{who}-{name}.key").write_bytes(party.key_pem)
    return folder


def openssl(pems: Path, certificate: str, *options: str) -> str:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "own-ca.pem", *options, certificate]
    ended = subprocess.run(command, cwd=pems, capture_output=True, text=True, check=False)
    return "OK" if ended.returncode == 0 else ended.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("certificate", "options", "said"),
    [
        ("own-server.pem", "-purpose sslserver", "OK"),
        ("own-server.pem", "-purpose sslserver -verify_hostname fed.example.org", "OK"),
        ("own-server.pem", "-purpose sslserver -verify_ip 10.0.0.5", "OK"),
        ("own-server.pem", "-purpose sslserver -verify_ip ::1", "OK"),
        ("own-node.pem", "-purpose sslclient", "OK"),
        ("own-ca.pem", "", "OK"),
        ("own-server.pem", "-purpose sslserver -verify_hostname other.example.org", "mismatch"),
        ("own-server.pem", "-purpose sslserver -verify_hostname 10.0.0.5", "mismatch"),
        ("own-server.pem", "-purpose sslserver -verify_ip 10.0.0.6", "mismatch"),
        ("own-server.pem", "-purpose sslclient", "purpose"),
        ("own-node.pem", "-purpose sslserver", "purpose"),
        ("strange-server.pem", "-purpose sslserver", "error"),
        ("strange-node.pem", "-purpose sslclient", "error"),
    ],
)
def test_openssl_agrees(pems: Path, certificate: str, options: str, said: str) -> None:
    assert said in openssl(pems, certificate, *options.split())


@needs_openssl
@pytest.mark.parametrize(("certificate", "life"), [("own-server.pem", 90), ("own-node.pem", 365), ("own-ca.pem", 3650)])
def test_openssl_agrees_on_the_time(pems: Path, certificate: str, life: int) -> None:
    def at(moment: timedelta) -> str:
        return openssl(pems, certificate, "-attime", str(int((NOW + moment).timestamp())))

    assert at(timedelta(minutes=-4)) == "OK"
    assert "not yet valid" in at(timedelta(minutes=-6))
    assert at(timedelta(days=life, minutes=-1)) == "OK"
    assert "expired" in at(timedelta(days=life, minutes=1))


def context(pems: Path, who: str, purpose: int, trusted: str = "own") -> ssl.SSLContext:
    made = ssl.SSLContext(purpose)
    made.load_verify_locations(pems / f"{trusted}-ca.pem")
    made.load_cert_chain(pems / f"{who}.pem", pems / f"{who}.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str:
    """Return the client's name as the server knows it after a handshake in this thread, over memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=host), server.wrap_bio(to_server, to_client, True)]
    waiting = set(range(2))
    for _ in range(8):
        for end in sorted(waiting):
            try:
                ends[end].do_handshake()
                waiting.discard(end)
            except ssl.SSLWantReadError:
                pass
    if not waiting:
        try:
            ends[1].read(1)
        except ssl.SSLWantReadError:
            return str(ends[1].getpeercert()["subjectAltName"][0][1])
    raise AssertionError("the handshake does not end")


@pytest.mark.parametrize("host", HOSTS)
def test_both_sides_meet_over_tls(pems: Path, host: str) -> None:
    client = context(pems, "own-node", ssl.PROTOCOL_TLS_CLIENT)
    assert handshake(client, context(pems, "own-server", ssl.PROTOCOL_TLS_SERVER), host) == "hospital-a"


@pytest.mark.parametrize(
    ("client", "trusted", "server", "host"),
    [
        ("own-node", "own", "own-server", "other.example.org"),
        ("own-node", "own", "own-node", "hospital-a"),
        ("own-node", "own", "strange-server", "fed.example.org"),
        ("own-server", "own", "own-server", "fed.example.org"),
        ("strange-node", "own", "own-server", "fed.example.org"),
        ("own-node", "strange", "own-server", "fed.example.org"),
    ],
)
def test_others_do_not_meet(pems: Path, client: str, trusted: str, server: str, host: str) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(
            context(pems, client, ssl.PROTOCOL_TLS_CLIENT, trusted),
            context(pems, server, ssl.PROTOCOL_TLS_SERVER),
            host,
        )


def test_no_certificate_outlives_its_authority() -> None:
    key = private_keys.new_tls_key()
    authority = certificates.new_authority("cardio", key, days_ago(3620))
    server = certificates.make_server_certificate(HOSTS, key.public_key(), authority, NOW)
    node = certificates.make_node_certificate("a", key.public_key(), authority, NOW)
    assert server.not_valid_after_utc == node.not_valid_after_utc == authority.certificate.not_valid_after_utc
    assert server.not_valid_after_utc.tzinfo is not None


def test_names_and_serial_numbers() -> None:
    key = private_keys.new_tls_key()
    authority = certificates.new_authority("cardio", key, NOW)
    first, second = (certificates.make_server_certificate(HOSTS, key.public_key(), authority, NOW) for _ in range(2))
    assert certificates.subject_names(first) == HOSTS
    assert first.serial_number != second.serial_number
    assert list(first.subject) == []
    assert authority.certificate.subject.rfc4514_string() == "CN=fedlora CA cardio"
    assert first.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_who_issued_a_certificate(pems: Path) -> None:
    own, strange, server = (
        certificates.from_pem((pems / f"{name}.pem").read_bytes()) for name in ("own-ca", "strange-ca", "own-server")
    )
    assert certificates.is_issued_by(server, own)
    assert not certificates.is_issued_by(server, strange)  # of the same name
    assert not certificates.is_issued_by(own, server)


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(IdentityError, match="not a certificate"):
        certificates.from_pem(data)


def test_a_private_key_must_be_that_of_the_certificate(tmp_path: Path) -> None:
    key = private_keys.new_tls_key()
    authority = certificates.new_authority("cardio", key, NOW)
    certificates.check_key(authority.certificate, key, tmp_path / "ca.key")
    with pytest.raises(IdentityError, match=r"ca\.key does not belong to its certificate"):
        certificates.check_key(authority.certificate, private_keys.new_tls_key(), tmp_path / "ca.key")
