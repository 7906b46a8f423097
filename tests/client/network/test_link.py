import re
import socket
import threading
import time

import pytest
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

import client.network.link
from client.network.dial import Patience
from common.errors import ConfigError, TransportError
from server.transport.grid import GrpcGrid
from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.throwaway_ca import TestAuthority
from tests.helpers.end_to_end.transport import (
    OPEN,
    Node,
    RecordingAuditor,
    ask,
    content,
    echo,
    guard,
    nodes,
    until,
    values_of,
)

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture(scope="module")
def authority():
    return TestAuthority()


@pytest.fixture
def start(authority, tmp_path):
    grids = []

    def start(guard=OPEN, port=0):
        grids.append(GrpcGrid(f"127.0.0.1:{port}", authority.server(), guard, tmp_path))
        return grids[-1]

    yield start
    for grid in grids:
        grid.close(finished=True)


def send(grid, **values):
    until(grid.get_node_ids)
    (reply,) = grid.send_and_receive(ask(grid, **values), timeout=30)
    return reply


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("unknown", "not on the server's roster"),
        ("revoked", "was revoked"),
        ("expired", "has expired"),
        ("rank", "`rank` is above what the roster allows"),
        ("other", "rejects this node: other"),
    ],
)
def test_a_roster_that_does_not_admit_ends_the_node_with_the_reason(start, authority, caplog, word, meaning):
    error = Node(start(guard(admit=lambda *who: word)).port, authority.node("a"), "a").ended()
    assert isinstance(error, TransportError)
    assert meaning in str(error)
    assert error.exit_status == 2
    assert "trying again" not in caplog.text


def test_a_rank_above_the_roster_is_told_and_one_within_is_not(start, authority):
    grid = start(guard(admit=lambda name, key, rank: "rank" if rank > 8 else None))
    assert "rank" in str(Node(grid.port, authority.node("a"), "a", rank=9).ended())
    with nodes(grid.port, authority, "a", rank=8):
        assert values_of(send(grid))["name"] == "a"


def test_a_codec_that_the_node_does_not_know_ends_it_by_name(start, authority, caplog):
    error = Node(start(guard(forms=("by-change", "int4"))).port, authority.node("a"), "a").ended()
    assert isinstance(error, TransportError)
    assert "'int4'" in str(error)
    assert "by-hash, plain, float32, bfloat16, int8, shared-a" in str(error)
    assert error.exit_status == 2
    assert "node a is rejected: codec int4" in caplog.text
    with nodes((grid := start(guard(forms=("by-hash", "int8")))).port, authority, "a"):  # control
        assert values_of(send(grid))["name"] == "a"


def test_a_server_of_another_authority_ends_a_node_that_fails_fast(start):
    error = Node(start().port, TestAuthority().node("a"), "a", fail_fast=True).ended()
    assert "authority" in str(error)


@pytest.fixture
def quick(monkeypatch):
    """Make pauses short, and a day last 0.3 s."""
    monkeypatch.setattr(client.network.link, "_LONGEST", 0.01)
    monkeypatch.setattr(client.network.link, "DISTRUST", 0.3)


def test_a_node_ends_after_a_day_without_a_server_that_it_trusts(start, quick, caplog):
    began = time.monotonic()
    error = Node(start().port, TestAuthority().node("a"), "a").ended()
    assert time.monotonic() - began > 0.3
    assert "authority" in str(error)
    assert caplog.text.count("not from this project's authority") == 1  # said once, then at most once a minute
    (record,) = [each for each in caplog.records if getattr(each, "event", "") == "untrusted"]
    assert record.fields["reason"] == str(error)


def test_a_node_connects_when_the_server_takes_the_port_of_an_impostor(start, authority, caplog, tmp_path):
    impostor = GrpcGrid("127.0.0.1:0", TestAuthority().server(), OPEN, tmp_path)
    with nodes(impostor.port, authority, "a"):
        until(lambda: "not from this project's authority" in caplog.text)
        impostor.close(finished=False)
        assert values_of(send(start(port=impostor.port)))["name"] == "a"


def test_a_day_of_distrust_begins_anew_with_each_accepted_connection():
    patience = Patience(0.2, 60)
    assert not patience.is_over()
    time.sleep(0.25)
    assert patience.is_over()
    patience.end()
    assert not patience.is_over()
    assert Patience(0.0, 60).is_over()


def test_a_reason_is_said_when_it_changes_and_once_in_a_while():
    patience = Patience(60, 0.2)
    assert [patience.is_due(words) for words in ("a", "a", "b", "b", "a")] == [True, False, True, False, True]
    time.sleep(0.25)
    assert patience.is_due("a")


def test_a_server_that_is_no_host_and_port_is_refused(authority):
    with pytest.raises(ConfigError):
        Node("nowhere", authority.node("a"), "a")


def test_a_node_waits_for_its_server_and_says_so(start, authority, caplog):
    port = free_port()
    with nodes(port, authority, "a"):
        until(lambda: f"nothing listens at 127.0.0.1:{port}" in caplog.text)
        assert values_of(send(start(port=port)))["name"] == "a"


def test_pauses_grow_to_a_bound_and_differ(authority, monkeypatch, caplog):
    pauses = []

    class Fast(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            if len(pauses) == 12:
                self.set()

    monkeypatch.setattr(client.network.link, "Event", Fast)
    assert Node(free_port(), authority.node("a"), "a").ended() is None
    assert all(low <= pause <= 2 * low for pause, low in zip(pauses[:6], (0.25, 0.5, 1, 2, 4, 8), strict=True))
    assert all(15 <= pause <= 30 for pause in pauses[6:])
    assert len(set(pauses)) == 12


def test_an_app_that_raises_tells_nothing_and_the_node_goes_on(start, authority):
    def app(message, context):
        if values_of(message)["fail"]:
            raise KeyError("canary of the node")
        return echo(message, context)

    grid = start()
    with nodes(grid.port, authority, "a", app=app):
        failed = send(grid, fail=True)
        assert failed.error == Error(2, "failed")
        assert values_of(send(grid, fail=False))["name"] == "a"


def test_an_error_of_the_app_comes_with_its_word(start, authority):
    grid = start()
    with nodes(grid.port, authority, "a", app=lambda m, c: Message(Error(2, "base"), reply_to=m)):
        assert send(grid).error == Error(2, "base")


def test_a_reply_too_large_for_a_head_has_failed_and_the_node_goes_on(start, authority):
    grid = start()
    app = lambda m, c: Message(content(x="x" * values_of(m)["size"]), reply_to=m)  # noqa: E731
    with nodes(grid.port, authority, "a", app=app):
        assert send(grid, size=2**20).error == Error(2, "failed")
        assert send(grid, size=10).has_content()


def test_a_client_app_of_flower_answers(start, authority):
    app = ClientApp()

    @app.train()
    def train(message, context):
        return echo(message, context)

    grid = start()
    with nodes(grid.port, authority, "a", app=app):
        assert values_of(send(grid, x=1)) == {"x": 1, "name": "a"}


def test_what_signs_sees_the_reply_and_adds_to_it(start, authority):
    seen = []

    def sign(reply):
        seen.append((dict(reply.values), reply.blob))
        return {"signature": b"\x00\xff"}

    grid = start()
    with nodes(grid.port, authority, "a", auditor=RecordingAuditor(sign)):
        reply = send(grid, blob=b"factors", x=1)
    assert seen == [({"x": 1, "name": "a"}, b"factors")]
    assert values_of(reply) == {"x": 1, "name": "a", "signature": b"\x00\xff"}


def test_an_interrupt_within_the_app_ends_the_node(start, authority):
    def app(message, context):
        raise KeyboardInterrupt

    grid = start()
    node = Node(grid.port, authority.node("a"), "a", app=app)
    assert send(grid).error == Error(5, "absent")
    assert isinstance(node.ended(), KeyboardInterrupt)


def test_messages_are_answered_one_at_a_time_in_one_thread(start, authority):
    threads, busy = [], threading.Lock()

    def app(message, context):
        assert busy.acquire(blocking=False)
        threads.append(threading.current_thread())
        time.sleep(0.02)
        busy.release()
        return echo(message, context)

    grid = start()
    with nodes(grid.port, authority, "a", app=app) as (node,):
        until(grid.get_node_ids)
        replies = list(grid.send_and_receive(ask(grid) * 5, timeout=30))
        assert [reply.has_content() for reply in replies] == [True] * 5
        assert set(threads) == {node.thread}


@pytest.mark.slow  # it asserts a time
@pytest.mark.parametrize("connected", [True, False])
def test_a_node_stops_when_it_is_told(start, authority, connected):
    before = set(threading.enumerate())
    port = start().port if connected else free_port()
    node = Node(port, authority.node("a"), "a")
    time.sleep(1)
    began = time.monotonic()
    node.stop()
    assert time.monotonic() - began < 10
    assert node.error is None
    if not connected:
        until(lambda: set(threading.enumerate()) <= before)


def test_it_connects_through_a_proxy(start, authority, environment):
    proxy, grid = ConnectProxy(), start()
    environment.setenv("https_proxy", proxy.url)
    with nodes(grid.port, authority, "a"):
        assert values_of(send(grid, blob=bytes(2**22)))["name"] == "a"
        assert proxy.asked == [f"127.0.0.1:{grid.port}"] * 2  # the probe, and gRPC
    proxy.close()


def test_it_gives_the_proxy_its_password(start, authority, environment):
    proxy, grid = ConnectProxy(user="user:secret"), start()
    environment.setenv("https_proxy", proxy.url)
    with nodes(grid.port, authority, "a"):
        assert values_of(send(grid))["name"] == "a"
    proxy.close()


def test_a_proxy_is_left_out_where_no_proxy_says_so(start, authority, environment):
    grid = start()
    environment.setenv("https_proxy", "http://127.0.0.1:1")
    environment.setenv("no_proxy", "127.0.0.1")
    with nodes(grid.port, authority, "a"):
        assert values_of(send(grid))["name"] == "a"


def test_a_proxy_that_refuses_is_named(start, authority, environment, caplog):
    proxy, grid = ConnectProxy(status=403), start()
    environment.setenv("https_proxy", proxy.url)
    with nodes(grid.port, authority, "a"):
        until(lambda: re.search("through the proxy 127.0.0.1.*403", caplog.text))
    assert grid.get_node_ids() == []
    proxy.close()
