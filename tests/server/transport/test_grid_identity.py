"""Authentication of nodes by the grid, and the start and end of a server."""

import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from flwr.app import Error
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.errors import TransportError
from server.transport.grid import GrpcGrid
from tests.helpers.end_to_end.strangers import bytes_given, plain_bytes_given, tls
from tests.helpers.end_to_end.throwaway_ca import TestAuthority
from tests.helpers.end_to_end.transport import OPEN, Node, RawNode, ask, guard, nodes, until, values_of


def test_a_stranger_gets_no_byte(start, authority, tmp_path):
    port = start().port
    strangers = {
        "without a certificate": None,
        "of another authority": TestAuthority().node("a"),
        "with an expired certificate": authority.node("a", days_ago=400),
        "with a server's certificate": authority.server(),
    }
    given = {who: bytes_given(port, tls(pems, tmp_path=tmp_path)) for who, pems in strangers.items()}
    assert given == dict.fromkeys(strangers, b"")
    assert bytes_given(port, tls(authority.node("a"), tmp_path=tmp_path)) != b""


def test_plaintext_gets_no_byte(start):
    assert plain_bytes_given(start().port) == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(start, authority, tmp_path, version):
    port, node = start().port, authority.node("a")
    assert bytes_given(port, tls(node, version, tmp_path)) == b""
    assert bytes_given(port, tls(node, ssl.TLSVersion.TLSv1_2, tmp_path)) != b""


def test_the_roster_is_asked_with_name_key_and_rank(start, authority):
    asked = []
    grid = start(guard(admit=lambda *who: asked.append(who)))
    tls = authority.node("a")
    node = RawNode(grid.port, tls, rank=7).admitted()
    assert asked == [("a", tls.key_hash, 7)]
    node.close()


@pytest.mark.parametrize("hello", [b"", b"{}", b'{"rank": 0}', b'{"rank": true}', b'{"rank": 1.5}', b"[" * 10_000])
def test_a_hello_without_a_rank_is_refused(start, authority, hello):
    grid = start()
    node = RawNode(grid.port, authority.node("a")).admitted()
    with pytest.raises(grpc.RpcError) as refused:
        next(node.open(hello))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed")
    assert len(grid.get_node_ids()) == 1
    node.close()


@pytest.mark.parametrize(
    ("hello", "codec"),
    [(b'{"rank": 4}', "by-hash"), (b'{"rank": 4, "codecs": []}', "plain"), (b'{"rank": 4, "codecs": ["x"]}', "plain")],
)
def test_a_node_that_does_not_know_the_runs_codec_is_refused_at_the_handshake(start, authority, hello, codec):
    """One that names none is of a release that had only the plain one."""
    grid = start(guard(forms=(codec,)))
    node = RawNode(grid.port, authority.node("a"))
    with pytest.raises(grpc.RpcError) as refused:
        next(node.open(hello))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, f"codec {codec}")
    if codec == "plain":  # control: the node's first stream, whose hello names none
        assert node.admitted()
    node.close()


def test_a_node_that_is_revoked_during_a_round_is_absent_and_its_reply_does_not_count(start, authority):
    revoked = []
    grid = start(guard(admit=lambda name, key, rank: "revoked" if name in revoked else None))
    node = RawNode(grid.port, authority.node("a")).admitted()
    ids = grid.push_messages(ask(grid))
    message = node.receive()
    revoked.append("a")
    with pytest.raises(grpc.RpcError, match="revoked"):
        node.reply(message, x=1)
    (reply,) = grid.pull_messages(ids)
    assert reply.error == Error(5, "absent")
    assert grid.get_node_ids() == []
    with pytest.raises(grpc.RpcError, match="refused"):
        next(node.stream)
    node.close()


def test_a_revoked_node_that_says_nothing_is_asked_nothing_more(start, authority):
    revoked = []
    grid = start(guard(admit=lambda name, key, rank: "revoked" if name in revoked else None))
    node, other = (RawNode(grid.port, authority.node(name)).admitted() for name in "ab")
    a, b = grid.get_node_ids()
    revoked.append("a")
    ids = grid.push_messages(ask(grid, [a, b]))
    with pytest.raises(grpc.RpcError, match="refused"):
        next(node.stream)
    other.reply(other.receive(), x=1)
    lost, kept = grid.pull_messages(ids)
    assert (lost.error, kept.has_content()) == (Error(5, "absent"), True)
    assert grid.get_node_ids() == [b]
    assert grid.meters["a"].refused == {"revoked": 1}
    node.close()
    other.close()


def test_a_second_connection_of_a_node_replaces_the_first(start, authority):
    grid, tls = start(), authority.node("a")
    first = Node(grid.port, tls, "first")
    until(lambda: grid.get_node_ids() == [2])
    second = Node(grid.port, tls, "second")
    error = first.ended()
    assert isinstance(error, TransportError)
    assert "another process" in str(error)
    assert grid.get_node_ids() == [3]
    (reply,) = grid.send_and_receive(ask(grid), timeout=30)
    assert values_of(reply)["name"] == "second"
    second.stop()


def test_the_key_and_not_the_name_makes_a_node(start, authority):
    """A roster that knows another key for the name keeps this one out, and the real one in."""
    real, forged = authority.node("a"), authority.node("a")
    grid = start(guard(admit=lambda name, key, rank: None if key == real.key_hash else "unknown"))
    node = RawNode(grid.port, real).admitted()
    with pytest.raises(grpc.RpcError, match="unknown"):
        next(RawNode(grid.port, forged).stream)
    ids = grid.push_messages(ask(grid))
    node.reply(node.receive(), x=1)
    until(lambda: grid._pending.wait(ids, 1) is None)
    assert [values_of(reply) for reply in grid.pull_messages(ids)] == [{"x": 1}]
    node.close()


KILLED = """
import os, sys
from tests.helpers.end_to_end.throwaway_ca import Pem
from tests.helpers.end_to_end.transport import RawNode, content
from common.protocol.frames import encode_message
from flwr.app import Message
pems = Pem(*(open(f"{sys.argv[2]}/{name}", "rb").read() for name in ("ca", "cert", "key")))
node = RawNode(int(sys.argv[1]), pems).admitted()
print("ready", flush=True)
reply = list(encode_message(Message(content(bytes(2**25)), reply_to=node.receive())))
def half():
    yield from reply[:10]
    print("half", flush=True)
    import time; time.sleep(60)
node.call(half())
"""


@pytest.fixture
def remote(authority, tmp_path):
    """Start a node in a new process that sends half a reply."""
    processes = []

    def remote(grid, name):
        tls = authority.node(name)
        for file, data in {"ca": tls.ca_pem, "cert": tls.certificate_pem, "key": tls.key_pem}.items():
            (tmp_path / file).write_bytes(data)
        command = [sys.executable, "-c", KILLED, str(grid.port), str(tmp_path)]
        root = Path(__file__).parents[3]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield remote
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("blow", "seconds"),
    [(signal.SIGKILL, 10), pytest.param(signal.SIGSTOP, 60, marks=pytest.mark.slow)],
    ids=["killed", "silent"],
)
def test_a_node_that_dies_in_the_middle_of_its_reply_is_absent_and_the_others_count(
    start, authority, remote, blow, seconds
):
    """Its socket closes, or its machine is silent: it is stopped, and keep-alive tells."""
    grid = start()
    with nodes(grid.port, authority, "other"):
        process = remote(grid, "dying")
        until(lambda: len(grid.get_node_ids()) == 2)
        ids = grid.push_messages(ask(grid))
        assert process.stdout.readline() == "half\n"
        until(lambda: grid.meters["dying"].received > 2**20)
        process.send_signal(blow)
        grid._pending.wait(ids, seconds)
        replies = list(grid.pull_messages(ids))
    words = [reply.error.reason if reply.has_error() else values_of(reply)["name"] for reply in replies]
    assert sorted(words) == ["absent", "other"]


def test_a_server_that_has_finished_ends_its_nodes(start, authority):
    before = threading.active_count()
    grid = start()
    node = Node(grid.port, authority.node("a"), "a")
    until(grid.get_node_ids)
    grid.close(finished=True)
    assert node.ended() is None
    until(lambda: threading.active_count() <= before + 1)  # gRPC keeps one thread of its own for all event loops
    assert not [thread for thread in threading.enumerate() if thread.name == "grid"]


def test_a_server_that_stops_before_the_end_is_awaited(start, authority, caplog):
    grid = start()
    with nodes(grid.port, authority, "a"):
        until(grid.get_node_ids)
        grid.close(finished=False)
        until(lambda: "trying again" in caplog.text)
        again = start(address=f"127.0.0.1:{grid.port}")
        until(again.get_node_ids)
        (reply,) = again.send_and_receive(ask(again), timeout=30)
        assert values_of(reply)["name"] == "a"


def test_closing_a_second_time_does_nothing(start):
    grid = start()
    grid.close(finished=False)
    grid.close(finished=True)


def test_leaving_the_block_by_an_error_does_not_end_the_nodes(authority, tmp_path):
    with pytest.raises(KeyError), GrpcGrid("127.0.0.1:0", authority.server(), OPEN, tmp_path) as grid:
        node = Node(grid.port, authority.node("a"), "a")
        until(grid.get_node_ids)
        raise KeyError
    assert node.thread.is_alive()
    node.stop()


def test_a_second_server_on_the_port_is_refused(start):
    grid = start()
    with pytest.raises(TransportError, match=f"cannot listen at 127.0.0.1:{grid.port}"):
        start(address=f"127.0.0.1:{grid.port}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_its_health_is_told_on_loopback(start):
    port = free_port()
    start(health_port=port)
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            next(channel.unary_stream("/fedlora.v1/Inbox")(b'{"rank": 4}', timeout=10))
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_many_half_open_connections_do_not_keep_a_node_out(start, authority):
    grid = start()
    half_open = [socket.create_connection(("127.0.0.1", grid.port), 10) for _ in range(200)]
    for each in half_open[::2]:
        each.sendall(b"\x16\x03\x01")  # a slow beginning of a handshake
    with nodes(grid.port, authority, "a"):
        until(grid.get_node_ids)
        (reply,) = grid.send_and_receive(ask(grid), timeout=30)
    assert values_of(reply)["name"] == "a"
    for each in half_open:
        each.close()


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1", "127.0.0.1"), ("[::]", "127.0.0.1"), ("[::]", "[::1]"), ("[::1]", "[::1]")]
)
def test_the_door_knows_a_connected_node_by_its_connection(listen, host, start, authority):
    """As a node, not a stranger, whichever family it came by."""
    grid, pem = start(address=f"{listen}:0"), authority.node("a")
    credentials = grpc.ssl_channel_credentials(pem.ca_pem, pem.key_pem, pem.certificate_pem)
    options = [("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"{host}:{grid.port}", credentials, options) as channel:
        stream = channel.unary_stream("/fedlora.v1/Inbox")(b'{"rank": 4}', timeout=60)
        assert dict(stream.initial_metadata())
        door = grid._service._door
        until(lambda: [each.address for each in door._sockets.values() if each.address] == [*door._visitors])
        assert [visitor.node for visitor in door._visitors.values()] == ["a"]
        stream.cancel()
