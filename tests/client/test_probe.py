"""What stands between a node and its server is named as it is, in less than 5 seconds."""

import socket
import threading
import time
from concurrent import futures
from datetime import UTC, datetime

import grpc
import pytest

from client.probe import Unreachable, host_and_port, probe
from common.errors import ConfigError, TransportError
from server.grid import GrpcGrid
from tests.authority import LOOPBACK, Pem, TestAuthority
from tests.transport import OPEN


@pytest.fixture(scope="module")
def authority():
    return TestAuthority()


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Starts servers with these certificates; they are closed at the end."""
    grids = []

    def serve(pems, gate=OPEN):
        grids.append(GrpcGrid("127.0.0.1:0", pems, gate, tmp_path_factory.mktemp("spool")))
        return grids[-1].port

    yield serve
    for grid in grids:
        grid.close(finished=True)


@pytest.fixture
def peer():
    """Starts a server that says these bytes to each connection, and keeps it open."""
    opened = []

    def start(say: bytes | None):
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                opened.append(connection)
                if say is None:
                    connection.close()
                else:
                    connection.sendall(say)

        threading.Thread(target=answer, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for each in opened:
        each.close()


def cause(server, pems, proxy=None) -> TransportError:
    """Why there is no connection, told within the time that is promised."""
    server = server if isinstance(server, str) else f"127.0.0.1:{server}"
    began = time.monotonic()
    with pytest.raises(TransportError) as failure:
        probe(server, pems, proxy)
    assert time.monotonic() - began < 5
    return failure.value


def heals(error: TransportError) -> bool:
    return isinstance(error, Unreachable)


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_good_server_is_no_fault(serve, authority, host):
    port = serve(authority.server())
    assert probe(f"{host}:{port}", authority.node("a"), None) is None


def test_the_key_does_not_lie_open_on_the_disk(serve, authority, monkeypatch, tmp_path):
    written = []
    import client.probe as module

    def keep(*args, **kwargs):
        file = make(*args, **kwargs)
        write = file.write
        file.write = lambda data: written.append(data) or write(data)
        return file

    make = module.NamedTemporaryFile
    monkeypatch.setattr(module, "NamedTemporaryFile", keep)
    pems = authority.node("a")
    probe(f"127.0.0.1:{serve(authority.server())}", pems, None)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in written[0]
    assert b"BEGIN PRIVATE KEY" not in written[0]
    assert b"BEGIN PRIVATE KEY" in pems.key_pem


def test_another_authority(serve, authority):
    error = cause(serve(TestAuthority().server()), authority.node("a"))
    assert "not of this project's authority" in str(error)
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


@pytest.mark.parametrize("say", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_plaintext(peer, authority, say):
    error = cause(peer(say), authority.node("a"))
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


def test_nothing_listens(authority):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = cause(port, authority.node("a"))
    assert str(error) == f"nothing listens at 127.0.0.1:{port}; has the server been started?"
    assert heals(error)


def test_silence(peer, authority):
    error = cause(peer(b""), authority.node("a"))
    assert "does not answer within 4 s" in str(error)
    assert heals(error)


def test_a_peer_that_hangs_up(peer, authority):
    assert heals(cause(peer(None), authority.node("a")))


def test_a_name_that_is_not_known(authority):
    error = cause("no-such-host.invalid:8443", authority.node("a"))
    assert "no-such-host.invalid" in str(error)
    assert heals(error)


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
    assert "this node's certificate is not of this project's authority" in str(error)
    assert not heals(error)


def test_a_certificate_of_the_node_that_cannot_be_read(serve, authority):
    own = authority.node("a")
    error = cause(serve(authority.server()), Pem(own.ca_pem, b"", own.key_pem))
    assert "this node's certificate is no certificate" in str(error)
    assert not heals(error)


def test_a_server_that_hangs_up_after_the_handshake_may_be_stopping(serve, authority):
    error = cause(serve(authority.server()), authority.server())  # no certificate of a node, which only the server sees
    assert "hung up after the TLS handshake" in str(error)
    assert heals(error)


@pytest.mark.parametrize(
    "server",
    ["", "host", "host:", ":8443", "host:x", "host:99999", "https://host:1", "host:1/x", "u@host:1", "[::1:8443"],
)
def test_what_is_no_host_and_port_is_refused(server):
    with pytest.raises(ConfigError, match="server = "):
        host_and_port(server)


@pytest.mark.parametrize(
    ("server", "parts"), [("fed.example.org:8443", ("fed.example.org", 8443)), ("[::1]:1", ("::1", 1))]
)
def test_a_host_and_a_port(server, parts):
    assert host_and_port(server) == parts
