"""Limits of a reply: what was ordered, and few plain values; over real sockets with real TLS."""

import threading
import time
from itertools import chain

import grpc
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from grpc import StatusCode

from common.protocol.frames import encode_message
from tests.helpers.end_to_end.transport import ask, connected, content, pull, values_of

MALFORMED = (StatusCode.FAILED_PRECONDITION, "malformed")


@pytest.mark.parametrize(("percent", "counts"), [(100, True), (101, True), (102, False), (1000, False)])
def test_a_reply_may_have_what_was_ordered_and_a_hundredth(grid, raw, percent, counts):
    node, ordered = raw("a"), 2**18
    ids = grid.push_messages(ask(grid, reply_bytes=ordered))
    frames = encode_message(Message(content(bytes(ordered * percent // 100)), reply_to=node.receive()))
    if counts:
        node.call(frames, timeout=30)
    else:
        assert node.refused(frames) == MALFORMED
    assert pull(grid, ids).has_content() == counts
    assert grid.names() == ["a"]


def test_what_is_too_large_is_refused_before_any_of_its_arrays_comes(grid, raw, caplog):
    node = raw("a")
    ids = grid.push_messages(ask(grid, reply_bytes=100))
    (first, *_) = encode_message(Message(content(bytes(2**26)), reply_to=node.receive()))
    endless = chain([first], iter(lambda: bytes(2**20), None))
    assert node.refused(endless) == MALFORMED
    assert pull(grid, ids).error == Error(2, "malformed")
    assert grid.meters["a"].received == len(first)
    assert "a reply of node a: 67108864 bytes of arrays where at most 101 were ordered" in caplog.text


def test_the_limit_is_of_all_arrays_together(grid, raw):
    node = raw("a")
    ids = grid.push_messages(ask(grid, reply_bytes=1000))
    arrays = {f"{n}": Array("uint8", (100,), "x", bytes(100)) for n in range(11)}
    reply = Message(RecordDict({"values": ConfigRecord({}), "adapter": ArrayRecord(arrays)}), reply_to=node.receive())
    assert node.refused(encode_message(reply)) == MALFORMED
    assert pull(grid, ids).error == Error(2, "malformed")


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("part", ["value", "error"])
def test_the_plain_values_of_a_reply_are_few(grid, raw, caplog, kind, part):
    node = raw("a")
    (number,) = connected(grid, 1)
    ids = grid.push_messages([Message(content(), number, kind, ttl=60, group_id="1")])
    asked, text = node.receive(), "x" * 2**16
    reply = Message(Error(2, text), reply_to=asked) if part == "error" else Message(content(x=text), reply_to=asked)
    assert node.refused(encode_message(reply)) == (StatusCode.INVALID_ARGUMENT, "malformed")
    assert pull(grid, ids).error == Error(5, "absent")
    assert "bytes of plain values where at most 65536 are expected" in caplog.text


def test_an_announcement_may_name_many_modules(grid, raw):
    node = raw("a")
    (number,) = connected(grid, 1)
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(4096)]
    ids = grid.push_messages([Message(content(), number, "query", ttl=60, group_id="1")])
    asked = node.receive()
    node.reply(asked, modules=names)
    assert values_of(pull(grid, ids))["modules"] == names
    ids = grid.push_messages([Message(content(), number, "query", ttl=60, group_id="1")])
    too_many = Message(content(modules=4 * names), reply_to=node.receive())
    assert node.refused(encode_message(too_many)) == (StatusCode.INVALID_ARGUMENT, "malformed")
    assert pull(grid, ids).error == Error(5, "absent")


def test_a_late_announcement_is_stale_and_the_node_stays(grid, raw):
    node = raw("a")
    (number,) = connected(grid, 1)
    grid.push_messages([Message(content(), number, "query", ttl=0.01, group_id="1")])
    late = Message(content(x="x" * 2**17), reply_to=node.receive())
    time.sleep(0.05)
    grid.push_messages(ask(grid, [77]))  # the server forgets what has expired when it asks again
    assert node.refused(encode_message(late)) == (StatusCode.FAILED_PRECONDITION, "stale")
    assert grid.names() == ["a"]


def test_a_hello_is_short(grid, authority, raw):
    node = raw("a")
    stream = node.open(b'{"rank": 4, "codecs": ["plain", "%s"]}' % (b"x" * 4096))
    with pytest.raises(grpc.RpcError) as refused:
        next(stream)
    assert refused.value.details() == "malformed"


def test_a_call_without_a_first_frame_ends(grid, raw, caplog, monkeypatch):
    monkeypatch.setattr("server.transport.service.FIRST_FRAME", 0.2)
    node, over = raw("a"), threading.Event()
    grid.push_messages(ask(grid))
    node.receive()
    assert node.refused(iter(lambda: over.wait(20), True)) == (StatusCode.INVALID_ARGUMENT, "malformed")
    over.set()
    assert "a call of node a has no first frame" in caplog.text
