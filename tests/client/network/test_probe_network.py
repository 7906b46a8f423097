"""The probe names each obstacle between a node and its server in less than 5 seconds, whatever the network does."""

import re
import socket
import threading

import pytest

import client.network.probe
from tests.helpers.client.probing import cause, heals
from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.fake_servers import black_hole, closed_port, talker
from tests.helpers.end_to_end.throwaway_ca import TestAuthority


@pytest.fixture(scope="module")
def authority():
    return TestAuthority()


@pytest.fixture
def brief(monkeypatch):
    """Less time than is promised, so that tests of silence are short."""
    monkeypatch.setattr(client.network.probe, "TIMEOUT", 0.4)


def test_nothing_listens(authority):
    port = closed_port()
    error = cause(port, authority.node("a"))
    assert str(error) == f"nothing listens at 127.0.0.1:{port}; has the server been started?"
    assert heals(error)


@pytest.mark.parametrize(("say", "pause"), [(b"", 0), (b"\x16\x03\x03\x40\x00" + bytes(999), 0.5)])
def test_silence_and_a_handshake_that_never_ends(authority, say, pause):
    with talker(say, pause) as port:
        error = cause(port, authority.node("a"))
    assert "does not answer within 3.5 s" in str(error)
    assert heals(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_black_hole(brief, authority, host):
    with black_hole(host.strip("[]")) as port:
        error = cause(f"{host}:{port}", authority.node("a"))
    assert "does not answer within 0.4 s; is it the right address" in str(error)
    assert heals(error)


def test_a_resolver_that_does_not_answer(brief, authority, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(30))
    error = cause("fed.example.org:8443", authority.node("a"))
    over.set()
    assert "the name of fed.example.org:8443 cannot be looked up: no answer in time" in str(error)
    assert heals(error)


@pytest.mark.parametrize(
    ("alert", "heal", "words"),
    [
        (40, True, "broke off the TLS handshake"),
        (80, True, "broke off the TLS handshake"),
        (112, True, "broke off the TLS handshake"),
        (42, False, "does not accept this node's certificate"),
        (48, False, "does not accept this node's certificate"),
    ],
)
def test_a_peer_that_breaks_off_the_handshake(authority, alert, heal, words):
    with talker(bytes([0x15, 3, 3, 0, 2, 2, alert])) as port:
        error = cause(port, authority.node("a"))
    assert words in str(error)
    assert heals(error) == heal


def test_a_peer_that_hangs_up(authority):
    with talker(None) as port:
        assert heals(cause(port, authority.node("a")))


def test_a_name_that_is_not_known(authority):
    error = cause("no-such-host.invalid:8443", authority.node("a"))
    assert "no-such-host.invalid" in str(error)
    assert heals(error)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (407, "through the proxy 127.0.0.1:.*: the proxy answers 407: it requires a user and a password"),
        (403, "through the proxy 127.0.0.1:.*: the proxy answers 403 Forbidden$"),
        (502, "through the proxy 127.0.0.1:.*: the proxy answers 502 Bad Gateway$"),
    ],
)
def test_a_proxy_that_refuses(authority, status, words):
    proxy = ConnectProxy(status=status)
    error = cause("fed.example.org:8443", authority.node("a"), proxy.url)
    proxy.close()
    assert re.search(f"^fed.example.org:8443 {words}", str(error))
    assert heals(error)


@pytest.mark.parametrize(
    ("say", "pause", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0, "does not answer in HTTP; is it an HTTP proxy?"),
        (b"HTTP/1.1 abc\r\n\r\n", 0, "does not answer in HTTP; is it an HTTP proxy?"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(2**17), 0, "does not answer in HTTP; is it an HTTP proxy?"),
        (None, 0, "the proxy hung up|Connection reset by peer"),
        (b"", 0, "does not answer within 0.4 s"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99, 0.1, "does not answer within 0.4 s"),
        (b"HTTP/1.1 200\r\n\r\n", 0, "does not answer within 0.4 s"),  # It opened a way, and nothing comes from it.
    ],
)
def test_what_is_no_proxy_or_keeps_silent(brief, authority, say, pause, words):
    with talker(say, pause) as port:
        error = cause("fed.example.org:8443", authority.node("a"), f"http://127.0.0.1:{port}")
    assert re.search(f"^fed.example.org:8443 through the proxy 127.0.0.1:{port}.*({words})", str(error))
    assert heals(error)


def test_where_the_proxy_should_be_nothing_listens(authority):
    port = closed_port()
    error = cause("fed.example.org:8443", authority.node("a"), f"http://127.0.0.1:{port}")
    assert str(error) == f"nothing listens at the proxy 127.0.0.1:{port} that https_proxy names; is it the right one?"
    assert heals(error)


def test_a_black_hole_where_the_proxy_should_be(brief, authority):
    with black_hole() as port:
        error = cause("fed.example.org:8443", authority.node("a"), f"http://user:secret@127.0.0.1:{port}")
    assert str(error).startswith(f"the proxy 127.0.0.1:{port} that https_proxy names does not answer within 0.4 s")
    assert heals(error)
