"""Messages and replies over real sockets with real TLS; who may answer what."""

import gc
import hashlib
import tempfile
import threading
import time
import tracemalloc
from itertools import chain, islice

import pytest
from flwr.app import Error, Message
from grpc import StatusCode

from common.protocol import payload
from common.protocol.frames import encode_message
from server.transport.connections import Outgoing
from server.transport.flower_messenger import FlowerMessenger, Payload
from tests.helpers.end_to_end.transport import (
    RawNode,
    RecordingAuditor,
    ask,
    blob_of,
    connected,
    content,
    guard,
    nodes,
    pull,
    until,
    values_of,
)

STALE = StatusCode.FAILED_PRECONDITION, "stale"


def test_three_nodes_answer_with_their_names(grid, authority):
    with nodes(grid.port, authority, "a", "b", "c"):
        connected(grid, 3)
        replies = list(grid.send_and_receive(ask(grid, blob=b"factors", lr=[0.5]), timeout=30))
    assert sorted(values_of(reply)["name"] for reply in replies) == ["a", "b", "c"]
    assert all(values_of(reply)["lr"] == [0.5] and blob_of(reply) == b"factors" for reply in replies)
    assert len({reply.metadata.src_node_id for reply in replies}) == 3
    assert {reply.metadata.dst_node_id for reply in replies} == {1}


def test_the_exchange_of_rounds_runs_over_it(grid, authority):
    with nodes(grid.port, authority, "a", "b"):
        payloads = dict.fromkeys(connected(grid, 2), Payload({"x": 1, "reply_bytes": 4}, b"blob"))
        replies = list(FlowerMessenger(grid, deadline=30).request("train", payloads, 1))
    assert sorted(reply.values["name"] for _, reply in replies) == ["a", "b"]


def test_64_mb_each_way_are_equal_to_the_bit(grid, authority, tmp_path):
    blob = bytes(range(256)) * 2**18
    with nodes(grid.port, authority, "a", "b"):
        connected(grid, 2)
        replies = list(grid.send_and_receive(ask(grid, blob=blob), timeout=120))
    assert [blob_of(reply) == blob for reply in replies] == [True, True]
    assert list(tmp_path.iterdir()) == []
    assert {name: meter.received > 2**26 < meter.sent for name, meter in grid.meters.items()} == {"a": True, "b": True}


def test_a_large_reply_waits_in_the_folder_and_not_in_memory(grid, raw, tmp_path, monkeypatch):
    places = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr("server.transport.service.TemporaryFile", lambda dir: places.append(dir) or make(dir=dir))
    node = raw("a")
    for size in (2**20, 2**20 + 1):
        ids = grid.push_messages(ask(grid))
        node.reply(node.receive(), bytes(size))
        assert len(blob_of(pull(grid, ids))) == size
    assert places == [tmp_path]


def test_what_came_too_late_for_a_node_is_dropped(grid, raw):
    node = raw("a")
    (number,) = connected(grid, 1)
    outbox = grid._connections.get(number).outbox
    grid._listener.call_soon(outbox._queue.append, Outgoing("1", iter([]), 0.0))  # expired, and not on its way
    grid._listener.call_soon(outbox._queue.append, Outgoing("", iter([])))
    ids = grid.push_messages(ask(grid, x=1))
    message = node.receive()
    assert values_of(message)["x"] == 1
    assert outbox.empty()
    node.reply(message, x=2)
    assert values_of(pull(grid, ids)) == {"x": 2}


@pytest.mark.parametrize(("kind", "counts"), [("train", True), ("query", False), ("evaluate", False)])
def test_factors_come_in_replies_to_train_only(grid, raw, kind, counts):
    node = raw("a")
    (number,) = connected(grid, 1)
    values = {"reply_bytes": 7} if counts else {}
    ids = grid.push_messages([Message(content(x=1, **values), number, kind, ttl=60, group_id="1")])
    frames = encode_message(Message(content(b"factors", x=1), reply_to=node.receive()))
    if counts:
        node.call(frames, timeout=30)
    else:
        assert node.refused(frames) == (StatusCode.FAILED_PRECONDITION, "malformed")
    assert pull(grid, ids).has_content() == counts


def test_a_reply_that_takes_longer_than_it_is_awaited_ends(grid, raw):
    node = raw("a")
    grid.push_messages(ask(grid, ttl=0.5))
    frames = encode_message(Message(content(bytes(2**21)), reply_to=node.receive()))

    def slowly():
        yield next(frames)
        time.sleep(3)
        yield from frames

    assert node.refused(slowly()) == STALE


def test_node_b_cannot_answer_for_node_a(grid, raw, caplog):
    a, b = raw("a"), raw("b")
    (id_a, id_b) = grid.push_messages(ask(grid, connected(grid, 2)))
    to_a, to_b = a.receive(), b.receive()
    assert b.refused(encode_message(Message(content(x="forged"), reply_to=to_a))) == STALE
    a.reply(to_a, x="real")
    b.reply(to_b, x="own")
    assert values_of(pull(grid, [id_a])) == {"x": "real"}
    assert values_of(pull(grid, [id_b])) == {"x": "own"}
    assert grid.meters["b"].refused == {"stale": 1}
    assert grid.meters["a"].refused == {}
    assert "node b is rejected: stale" in caplog.text


def test_a_reply_counts_once(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    message = node.receive()
    node.reply(message, x="first")
    again = lambda: node.refused(encode_message(Message(content(x="second"), reply_to=message)))  # noqa: E731
    assert again() == STALE
    assert values_of(pull(grid, ids)) == {"x": "first"}
    assert again() == STALE
    assert list(grid.pull_messages(ids)) == []


def test_a_reply_says_nothing_of_its_own_about_where_it_comes_from(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    reply = Message(content(x=1), reply_to=node.receive())
    reply.metadata.__dict__.update(_src_node_id=99, _group_id="other", _run_id=7)
    node.call(encode_message(reply))
    metadata = pull(grid, ids).metadata
    assert (metadata.src_node_id, metadata.group_id, metadata.run_id) == (grid.get_node_ids()[0], "1", 1)


def test_a_reply_after_the_deadline_is_refused(grid, raw):
    node = raw("a")
    (late,) = grid.push_messages(ask(grid, ttl=0.01))
    message = node.receive()
    time.sleep(0.05)
    assert node.refused(encode_message(Message(content(), reply_to=message))) == STALE
    assert list(grid.pull_messages([late])) == []


@pytest.mark.parametrize("frames", [[], [b""], [b"nonsense"], [b"\0" * 2**20]])
def test_a_node_that_sends_nonsense_is_gone_at_once(grid, raw, frames):
    node, other = raw("a"), raw("b")
    ids = list(grid.push_messages(ask(grid, connected(grid, 2))))
    assert node.refused(frames) == (StatusCode.INVALID_ARGUMENT, "malformed")
    assert pull(grid, ids[:1]).error == Error(5, "absent")
    other.reply(other.receive(), x=1)
    assert values_of(pull(grid, ids[1:])) == {"x": 1}


@pytest.mark.parametrize("change", [lambda f: [*f, b"x"], lambda f: [f[0], f[1][:-1]]])
def test_a_reply_with_wrong_frames_counts_as_malformed(grid, raw, change):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    frames = list(encode_message(Message(content(b"blob"), reply_to=node.receive())))
    assert node.refused(change(frames)) == (StatusCode.FAILED_PRECONDITION, "malformed")
    assert pull(grid, ids).error == Error(2, "malformed")


def test_a_reply_that_ends_too_early_may_come_again(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    frames = list(encode_message(Message(content(bytes(2**21)), reply_to=node.receive())))
    assert node.refused(frames[:-1]) == (StatusCode.FAILED_PRECONDITION, "broken")
    assert list(grid.pull_messages(ids)) == []
    node.call(iter(frames))
    assert len(blob_of(pull(grid, ids))) == 2**21


def test_a_reply_without_values_counts_as_malformed(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    reply = Message(content(), reply_to=node.receive())
    del reply.content["values"]
    node.call(encode_message(reply))
    assert pull(grid, ids).error == Error(2, "malformed")


def test_a_full_disk_costs_the_reply_and_not_the_round(grid, raw, monkeypatch):
    def full(dir):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.transport.service.TemporaryFile", full)
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    frames = encode_message(Message(content(bytes(2**21)), reply_to=node.receive()))
    assert node.refused(frames) == (StatusCode.FAILED_PRECONDITION, "failed")
    assert pull(grid, ids).error == Error(2, "failed")


def test_a_reply_that_breaks_off_may_come_again(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid))
    message = node.receive()
    guard = threading.Event()
    frames = list(encode_message(Message(content(bytes(2**21)), reply_to=message)))

    def half():
        yield from frames[:2]
        guard.wait(30)

    call = node.call.future(half())
    until(lambda: grid.meters["a"].received > 2**20)
    call.cancel()
    guard.set()
    sent = []
    until(lambda: sent or _sent(node, frames, sent))
    assert len(blob_of(pull(grid, ids))) == 2**21


def _sent(node, frames, sent):
    try:
        sent.append(node.call(iter(frames), timeout=30))
    except Exception:
        return False
    return True


def test_a_node_that_hangs_up_is_absent_at_once(grid, raw):
    node, _ = raw("a"), raw("b")
    first, second = connected(grid, 2)
    (lost, kept) = grid.push_messages(ask(grid, [first, second]))
    node.close()
    reply = pull(grid, [lost])
    assert (reply.error, reply.metadata.reply_to_message_id) == (Error(5, "absent"), lost)
    assert grid.get_node_ids() == [second]
    assert list(grid.pull_messages([kept])) == []


def test_a_message_to_a_node_that_is_gone_is_answered_as_absent(grid):
    (reply,) = grid.send_and_receive(ask(grid, [77]), timeout=30)
    assert reply.error == Error(5, "absent")
    messenger = FlowerMessenger(grid, deadline=30)
    assert list(messenger.request("train", {77: Payload({})}, 1)) == [(77, "absent")]


def test_sending_hands_back_what_is_there_at_the_timeout(grid, raw):
    raw("a")
    assert list(grid.send_and_receive(ask(grid), timeout=0.05)) == []


def test_the_message_of_the_app_is_left_as_it_is(grid, raw):
    raw("a")
    messages = ask(grid, x=1)
    grid.push_messages(messages)
    assert [message.metadata.message_id for message in messages] == [""]


def test_a_reply_is_unpacked_once_and_its_factors_are_hashed_once(start, authority, monkeypatch):
    """What the roster's check has read and hashed is what the round gets."""
    checked, hashed = [], []
    sha256 = hashlib.sha256
    monkeypatch.setattr(payload.hashlib, "sha256", lambda blob: hashed.append(bytes(blob)) or sha256(blob))
    grid = start(guard(verify=lambda name, reply: checked.append(reply) or bool(reply.blob_hash)))
    with nodes(grid.port, authority, "a"):
        connected(grid, 1)
        requests = {node: Payload({"x": 1, "reply_bytes": 2}, b"12") for node in grid.get_node_ids()}
        hashed.clear()
        ((_, reply),) = FlowerMessenger(grid, 30).request("train", requests, 1)
        assert reply.blob_hash == sha256(b"12").hexdigest()
    assert reply is checked[0]
    assert hashed == [b"12"]


def test_a_reply_whose_signature_is_wrong_does_not_count(start, authority):
    asked = []
    is_right = lambda name, reply: asked.append(name) or reply.values["sum"] == sum(reply.blob)  # noqa: E731
    grid = start(guard(verify=is_right))
    sign = lambda reply: {"sum": sum(reply.blob) + (reply.values["name"] == "b")}  # noqa: E731
    with nodes(grid.port, authority, "a", "b", auditor=RecordingAuditor(sign)):
        connected(grid, 2)
        replies = list(grid.send_and_receive(ask(grid, blob=b"12"), timeout=30))
    (bad,) = [reply.error for reply in replies if reply.has_error()]
    (good,) = [values_of(reply) for reply in replies if reply.has_content()]
    assert (bad, good["name"]) == (Error(2, "signature"), "a")
    assert sorted(asked) == ["a", "b"]


def test_replies_are_read_one_at_a_time(start, raw, authority):
    checked = []
    grid = start(guard(verify=lambda name, reply: checked.append(name) or True))
    with nodes(grid.port, authority, "a", "b"):
        connected(grid, 2)
        ids = grid.push_messages(ask(grid))
        grid._pending.wait(ids, 30)
        replies = grid.pull_messages(ids)
        assert checked == []
        assert [len(checked) for _ in replies] == [1, 2]


def test_a_flood_of_frames_ends_at_the_limit_of_a_round(start, authority):
    grid = start(guard(round=2**21))
    node = RawNode(grid.port, authority.node("a")).admitted()
    ids = grid.push_messages(ask(grid))
    frames = encode_message(Message(content(bytes(2**26)), reply_to=node.receive()))
    assert node.refused(frames) == (StatusCode.FAILED_PRECONDITION, "malformed")
    assert pull(grid, ids).error == Error(2, "malformed")
    assert grid.meters["a"].received < 2**23
    node.close()


def test_too_many_calls_are_refused(start, authority):
    grid = start(guard(calls=5))
    node = RawNode(grid.port, authority.node("a")).admitted()
    answers = {node.refused([b"x" * n]) for n in range(20)}
    assert (StatusCode.RESOURCE_EXHAUSTED, "rate") in answers
    assert grid.meters["a"].refused["rate"] >= 10
    node.close()


def test_memory_holds_one_reply_and_not_one_of_each_node(grid, raw):
    size, count = 2**24, 6
    blob, names = bytes(size), [f"node-{index}" for index in range(count)]
    running = [raw(name) for name in names]
    ids = list(grid.push_messages(ask(grid)))
    messages = [node.receive() for node in running]
    tracemalloc.start()
    for node, message in zip(running, messages, strict=True):
        node.reply(message, blob)
    received = tracemalloc.get_traced_memory()[1]
    pulled = 0
    for reply in grid.pull_messages(ids):
        pulled += len(blob_of(reply)) == size
        gc.collect()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pulled == count
    assert received < size / 2
    assert size <= peak < 2.5 * size


def test_endless_frames_do_not_hold_memory(grid, raw):
    """Those of a reply to no message end at once, whatever they announce."""
    node = raw("a")
    (first, *_) = encode_message(Message(content(bytes(2**26)), reply_to=ask(grid)[0]))
    assert node.refused(chain([first], islice(iter(lambda: bytes(2**20), None), 64))) == STALE
    assert grid.meters["a"].received < 2**20
