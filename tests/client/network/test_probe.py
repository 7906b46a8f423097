"""The probe names each fault of a node's and its server's certificates in less than 5 seconds."""

from concurrent import futures
from datetime import UTC, datetime
from ipaddress import ip_address

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from client.network.probe import Untrusted, host_and_port, probe
from common.errors import ConfigError
from server.transport.grid import GrpcGrid
from tests.helpers.client.probing import cause, heals
from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.fake_servers import talker
from tests.helpers.end_to_end.throwaway_ca import LOOPBACK, Pem, TestAuthority
from tests.helpers.end_to_end.transport import OPEN


@pytest.fixture(scope="module")
def authority():
    return TestAuthority()


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start servers with these certificates; they are closed at the end."""
    grids = []

    def serve(tls, guard=OPEN):
        grids.append(GrpcGrid("127.0.0.1:0", tls, guard, tmp_path_factory.mktemp("spool")))
        return grids[-1].port

    yield serve
    for grid in grids:
        grid.close(finished=True)


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_good_server_is_no_fault(serve, authority, host):
    port = serve(authority.server())
    assert probe(f"{host}:{port}", authority.node("a"), None) is None


def test_a_good_server_behind_a_proxy_is_no_fault(serve, authority):
    proxy = ConnectProxy()
    port = serve(authority.server())
    assert probe(f"localhost:{port}", authority.node("a"), proxy.url) is None
    proxy.close()
    assert proxy.asked == [f"localhost:{port}"]


def test_the_key_does_not_lie_open_on_the_disk(serve, authority, monkeypatch, tmp_path):
    written = []
    import client.network.probe as module

    def keep(*args, **kwargs):
        file = make(*args, **kwargs)
        write = file.write
        file.write = lambda data: written.append(data) or write(data)
        return file

    make = module.NamedTemporaryFile
    monkeypatch.setattr(module, "NamedTemporaryFile", keep)
    tls = authority.node("a")
    probe(f"127.0.0.1:{serve(authority.server())}", tls, None)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in written[0]
    assert b"BEGIN PRIVATE KEY" not in written[0]
    assert b"BEGIN PRIVATE KEY" in tls.key_pem


def test_another_authority(serve, authority):
    error = cause(serve(TestAuthority().server()), authority.node("a"))
    assert "not from this project's authority" in str(error)
    assert not heals(error)


def test_an_expired_server(serve, authority):
    error = cause(serve(authority.server(days_ago=91)), authority.node("a"))
    assert "has expired by this machine's clock" in str(error)
    assert "fedlora keys renew" in str(error)
    assert not heals(error)


def test_a_clock_that_is_behind(serve, authority):
    error = cause(serve(authority.server(days_ago=-1)), authority.node("a"))
    assert f"not valid yet by this machine's clock, {datetime.now(UTC):%Y-%m}" in str(error)
    assert not heals(error)


@pytest.mark.parametrize("host", LOOPBACK)
def test_another_name(serve, authority, host):
    error = cause(f"{host}:{serve(authority.server('fed.example.org', '10.0.0.5'))}", authority.node("a"))
    assert "is for other names" in str(error)
    assert not heals(error)


IP = x509.IPAddress(ip_address("127.0.0.1"))
ODD = {
    "only in the common name": ({"names": (), "common_name": "localhost"}, "no subject alternative name"),
    "in the common name, beside an address": ({"names": [IP], "common_name": "localhost"}, "only as its common name"),
    "beside a mail address": (
        {"names": [x509.RFC822Name("a@example.org")], "common_name": "localhost"},
        "only as its common name",
    ),
    "an authority": ({"ca": True}, "ca = FALSE is needed"),
    "perhaps an authority": ({"ca": None}, "ca = FALSE is needed"),
    "for any use": ({"usage": None}, "serverAuth is needed"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_certificate_that_is_not_a_servers(serve, authority, kind):
    parts, words = ODD[kind]
    error = cause(f"localhost:{serve(authority.odd_server(**parts))}", authority.node("a"))
    assert isinstance(error, Untrusted)
    assert words in str(error)
    assert "keys renew" in str(error)


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("127.0.0.1", {"names": (), "common_name": "127.0.0.1"}),
        ("localhost", {"names": [x509.DNSName("other")], "common_name": "localhost"}),
        ("localhost", {"usage": ExtendedKeyUsageOID.CLIENT_AUTH}),
    ],
)
def test_openssl_refuses_others_of_the_kind(serve, authority, host, parts):
    assert isinstance(cause(f"{host}:{serve(authority.odd_server(**parts))}", authority.node("a")), Untrusted)


@pytest.mark.parametrize("host", LOOPBACK)
def test_control_the_parts_of_a_good_one_are_no_fault(serve, authority, host):
    assert probe(f"{host}:{serve(authority.odd_server(common_name='other'))}", authority.node("a"), None) is None


@pytest.mark.parametrize("say", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_plaintext(authority, say):
    with talker(say) as port:
        error = cause(port, authority.node("a"))
    assert "does not speak TLS" in str(error)
    assert not heals(error)


def test_plaintext_grpc(authority):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    error = cause(port, authority.node("a"))
    server.stop(None)
    assert "does not speak TLS" in str(error)
    assert not heals(error)


@pytest.mark.parametrize(
    ("days_ago", "words"),
    [(400, "this node's certificate has expired"), (-1, "this node's certificate is not valid yet")],
)
def test_a_certificate_of_the_node_that_is_not_valid_now(serve, authority, days_ago, words):
    error = cause(serve(authority.server()), authority.node("a", days_ago=days_ago))
    assert words in str(error)
    assert "this machine's clock" in str(error)
    assert not heals(error)


def test_a_certificate_of_the_node_that_is_of_another_authority(serve, authority):
    own, other = authority.node("a"), TestAuthority().node("a")
    error = cause(serve(authority.server()), Pem(own.ca_pem, other.certificate_pem, other.key_pem))
    assert "this node's certificate is not from this project's authority" in str(error)
    assert not heals(error)


def test_a_certificate_of_the_node_that_cannot_be_read(serve, authority):
    own = authority.node("a")
    error = cause(serve(authority.server()), Pem(own.ca_pem, b"", own.key_pem))
    assert "this node's certificate is not a certificate" in str(error)
    assert not heals(error)


def test_a_server_that_hangs_up_after_the_handshake_may_be_stopping(serve, authority):
    error = cause(serve(authority.server()), authority.server())  # no certificate of a node, which only the server sees
    assert "hung up after the TLS handshake" in str(error)
    assert heals(error)


@pytest.mark.parametrize(
    "server",
    [
        *("", "host", "host:", ":8443", "host:x", "host:99999", "https://host:1", "host:1/x", "u@host:1", "[::1:8443"),
        *("host..example.org:1", f"{'a' * 64}.org:1"),
    ],
)
def test_what_is_no_host_and_port_is_refused(server):
    with pytest.raises(ConfigError, match="server = "):
        host_and_port(server)


@pytest.mark.parametrize(
    ("server", "parts"), [("fed.example.org:8443", ("fed.example.org", 8443)), ("[::1]:1", ("::1", 1))]
)
def test_a_host_and_a_port(server, parts):
    assert host_and_port(server) == parts
