"""A process's own connections are found among its files, and shut."""

import os
import socket
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from server.transport.door.sockets import Address, address_of, open_sockets, shut

LISTEN = {
    "ipv4": (socket.AF_INET, "127.0.0.1", "127.0.0.1", False),
    "ipv6": (socket.AF_INET6, "::1", "::1", False),
    "dual": (socket.AF_INET6, "::", "127.0.0.1", True),
}


@pytest.fixture(params=LISTEN)
def pair(request):
    """Yield the port of a listener, a connection that it accepted, and its other end."""
    family, bound, called, dual = LISTEN[request.param]
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server((bound, 0), family=family, dualstack_ipv6=dual))
        port = listener.getsockname()[1]
        peer = opened.enter_context(socket.create_connection((called, port), 5))
        accepted = opened.enter_context(listener.accept()[0])
        yield port, accepted, peer


def test_accepted_connections_are_found_and_no_others(pair):
    port, accepted, peer = pair
    left, right = socket.socketpair()
    with left, right:
        found = {number: each.address for number, each in open_sockets(port, {}).items() if each.address}
    host, own_port = peer.getsockname()[:2]
    assert found == {accepted.fileno(): Address(ip_address(host), own_port)}


def test_a_shut_connection_is_closed_for_the_other_end(pair):
    port, accepted, peer = pair
    address = open_sockets(port, {})[accepted.fileno()].address
    shut(accepted.fileno(), Address(address.host, address.port + 1), port)
    accepted.send(b"x")
    assert peer.recv(1) == b"x"  # another address: left alone
    shut(accepted.fileno(), address, port)
    assert peer.recv(1) == b""


def test_a_file_that_has_become_another_is_left_alone(pair):
    port, accepted, _ = pair
    address = open_sockets(port, {})[accepted.fileno()].address
    left, right = socket.socketpair()
    with left, right:
        shut(left.fileno(), address, port)
        left.send(b"x")
        assert right.recv(1) == b"x"
    shut(10**6, address, port)


def test_looking_opens_no_file(pair):
    port, *_ = pair
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    known = {}
    for _ in range(50):
        known = open_sockets(port, known)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("peer", "host", "port"),
    [
        ("ipv4:127.0.0.1:60550", "127.0.0.1", 60550),
        ("ipv6:%5B::1%5D:4711", "::1", 4711),
        ("ipv6:[2001:db8::5]:1", "2001:db8::5", 1),
        ("ipv6:%5B::ffff:10.0.0.5%5D:9", "10.0.0.5", 9),
        ("ipv6:%5Bfe80::1%25eth0%5D:9", "fe80::1", 9),
    ],
)
def test_grpc_names_a_peer_by_its_address(peer, host, port):
    assert address_of(peer) == Address(ip_address(host), port)


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/run/x", "ipv4:", "ipv4:host:80", "ipv4:1.2.3.4:"])
def test_another_text_names_none(peer):
    assert address_of(peer) is None
