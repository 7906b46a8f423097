import json
import tracemalloc
from contextlib import suppress
from io import BytesIO

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TransportError
from common.protocol.channel import FRAME
from common.protocol.flower import give_id, identify
from common.protocol.frames import IncomingMessage, decode_message, encode_message, read_first_frame
from common.protocol.message_header import MAX_ENTRIES

SIZES = [0, 1, FRAME, 2 * FRAME + 5]
LIMIT = 2**24
CONFIG = {"a": 1, "b": 2.5, "c": "ü", "d": True, "e": b"\x00\xff", "f": [1, 2], "g": [b"x"], "h": ["s"], "i": []}


def data(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def message_of(records) -> Message:
    identify()
    return give_id(Message(RecordDict(records), 7, "train", ttl=60, group_id="3"), "an id")


@pytest.fixture
def message():
    arrays = ArrayRecord({f"array {size}": Array("uint8", (size,), "fedlora.v1", data(size)) for size in SIZES})
    return message_of({"z": arrays, "values": ConfigRecord(CONFIG), "m": MetricRecord({"loss": 0.5, "n": [1, 2]})})


@pytest.fixture
def frames(message):
    return list(encode_message(message))


def decoded(frames) -> Message:
    return decode_message(frames[0], iter(frames[1:]), LIMIT)


def head(frames) -> dict:
    return json.loads(frames[0][4:])


def framed(plain) -> bytes:
    text = json.dumps(plain).encode()
    return len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize("kind", ["arrays", "config"])
def test_many_small_things_are_refused_before_they_are_built(kind, frames, monkeypatch):
    monkeypatch.setattr("common.protocol.message_header._record", lambda *parts: pytest.fail("it was built"))
    one = {"arrays": ["u1", [0], "x", 0], "config": [1]}[kind]
    plain = head(frames) | {"records": [["r", kind, [[f"{n}", *one] for n in range(MAX_ENTRIES)]]]}
    with pytest.raises(TransportError, match="malformed"):
        read_first_frame(framed(plain), LIMIT)


def test_a_message_comes_back(message, frames):
    back = decoded(frames)
    assert dict(back.content) == dict(message.content)
    assert list(back.content["z"]) == list(message.content["z"])
    assert vars(back.metadata) | {"_src_task_id": 1} == vars(message.metadata) | {"_src_task_id": 1}


def test_values_keep_their_types(frames):
    values = dict(decoded(frames).content["values"])
    assert {name: type(value) for name, value in values.items()} == {name: type(v) for name, v in CONFIG.items()}


@pytest.mark.parametrize("error", [Error(2, "failed"), Error(5), Error(2, "ü" * 500)])
def test_an_error_comes_back(message, error):
    (frame,) = encode_message(Message(error, reply_to=message))
    back = decode_message(frame, iter(()), LIMIT)
    assert back.error == error
    assert back.metadata.reply_to_message_id == "an id"


def test_an_empty_message_comes_back():
    assert dict(decoded(list(encode_message(message_of({})))).content) == {}


def test_frames_are_full_but_the_last_of_an_array(frames):
    assert [len(frame) for frame in frames[1:]] == [1, FRAME, FRAME, FRAME, 5]


def test_plain_values_beyond_a_frame_are_refused_before_anything_is_sent():
    with pytest.raises(TransportError, match="more than one frame"):
        encode_message(message_of({"values": ConfigRecord({"x": "x" * FRAME})}))


def test_a_message_takes_no_more_frames_than_it_has(frames):
    stream = iter([*frames[1:], b"the next"])
    decode_message(frames[0], stream, LIMIT)
    assert next(stream) == b"the next"


@pytest.mark.parametrize("frame", [b"", b"x", b"x" * FRAME])
def test_a_frame_too_many_is_refused(frames, frame):
    incoming = IncomingMessage(read_first_frame(frames[0], LIMIT))
    for good in frames[1:]:
        incoming.add(good)
    assert incoming.left == 0
    with pytest.raises(TransportError):
        incoming.add(frame)


@pytest.mark.parametrize("change", [lambda f: f[:-1], lambda f: f + b"x", lambda f: b"", lambda f: f[: len(f) // 2]])
@pytest.mark.parametrize("index", range(6))
def test_a_frame_of_another_length_is_refused(frames, index, change):
    frames[index] = change(frames[index])
    with pytest.raises(TransportError):
        decoded(frames)


def test_a_missing_frame_is_refused(frames):
    for cut in range(1, len(frames)):
        with pytest.raises(TransportError):
            decoded(frames[:cut])


def test_more_than_the_limit_is_refused_before_there_is_a_place_for_it(frames):
    places = []
    total = sum(SIZES)
    assert (
        IncomingMessage(read_first_frame(frames[0], total), lambda size: places.append(size) or BytesIO()).left == total
    )
    assert places == [total]
    with pytest.raises(TransportError, match="limit"):
        read_first_frame(frames[0], total - 1)


def test_a_size_without_bytes_costs_no_memory():
    plain = head(list(encode_message(message_of({}))))
    plain["records"] = [["r", "arrays", [["k", "uint8", [1], "x", 2**30]]]]
    tracemalloc.start()
    with pytest.raises(TransportError):
        read_first_frame(framed(plain), 2**30 - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_64_mb_cost_their_own_size_once():
    blob = data(2**26)
    message = message_of({"r": ArrayRecord({"k": Array("uint8", (len(blob),), "x", blob)})})
    tracemalloc.start()
    frames = encode_message(message)
    back = decode_message(next(frames), frames, 2**26)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert back.content["r"]["k"].data == blob
    assert 2**26 <= peak < 2**26 + 4 * FRAME


def test_a_claimed_size_takes_no_memory_and_what_comes_takes_its_own(frames):
    plain = head(frames)
    plain["records"] = [["r", "arrays", [["k", "uint8", [2**50], "x", 2**50]]]]
    for came in (0, 1, 2, 9):
        tracemalloc.start()
        incoming = IncomingMessage(read_first_frame(framed(plain)))
        for _ in range(came):
            incoming.add(bytes(FRAME))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert came * FRAME <= peak < 1.6 * came * FRAME + 2 * FRAME


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("metadata"),
        lambda h: h.pop("records"),
        lambda h: h.update(records=[["a", "pickle", []]]),
        lambda h: h["metadata"].update(message_id=5),
        lambda h: h["metadata"].update(run_id=True),
        lambda h: h["metadata"].update(ttl=float("nan")),
        lambda h: h["metadata"].update(created_at=float("inf")),
        lambda h: h["metadata"].update(message_type="../x"),
        lambda h: h["records"].append(h["records"][0]),
        lambda h: h["records"][0][2][3].__setitem__(4, -1),
        lambda h: h["records"][0][2][3].__setitem__(4, 1.0),
        lambda h: h["records"][0][2][3].__setitem__(4, 10**4000),
        lambda h: h["records"][0][2][3].__setitem__(2, [-1]),
        lambda h: h["records"][0][2][3].__setitem__(1, None),
        lambda h: h["records"][0][2].append(h["records"][0][2][0]),
        lambda h: h["records"][1][2].append(["more", {"x": 1}]),
        lambda h: h["records"][1][2].append(["more", None]),
        lambda h: h["records"][1][2].append(["more", {"bytes": "no hex"}]),
        lambda h: h["records"][1][2].append(["more", [1, "s"]]),
        lambda h: h["records"][2][2].append(["more", "text"]),
        lambda h: h.update(error=["2", "x"]),
        lambda h: h.update(error=[2]),
    ],
)
def test_a_head_that_lies_is_refused(frames, change):
    plain = head(frames)
    assert decode_message(framed(plain), iter(frames[1:]), LIMIT).has_content()
    change(plain)
    with pytest.raises(TransportError):
        decode_message(framed(plain), iter(frames[1:]), LIMIT)


def test_a_head_nested_without_end_is_refused():
    text = b"[" * 200_000
    with pytest.raises(TransportError):
        read_first_frame(len(text).to_bytes(4, "little") + text, LIMIT)


@given(st.binary(max_size=200))
def test_of_hostile_bytes_nothing_but_our_error_comes(text):
    for first in (text, len(text).to_bytes(4, "little") + text):
        with pytest.raises(TransportError):
            decode_message(first, iter((text,)), LIMIT)


SMALL = list(
    encode_message(
        message_of(
            {
                "r": ArrayRecord({"k": Array("uint8", (3,), "x", b"abc"), "l": Array("uint8", (1,), "x", b"d")}),
                "v": ConfigRecord(CONFIG),
                "m": MetricRecord({"n": [1]}),
            }
        )
    )
)


def only_our_error(first: bytes) -> None:
    with suppress(TransportError):
        decode_message(first, iter(SMALL[1:]), LIMIT)


@given(st.data())
def test_of_a_changed_head_nothing_but_our_error_comes(data):
    text = bytearray(SMALL[0][4:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        text = text or bytearray(b"{")
    only_our_error(len(text).to_bytes(4, "little") + text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("bytes"), inner, max_size=2)
    ),
    max_leaves=8,
)


def places(plain):
    """Every place within a JSON value."""
    entries = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in list(entries):
        yield plain, key
        yield from places(value)


@given(st.data())
def test_of_any_value_in_any_place_nothing_but_our_error_comes(data):
    plain = json.loads(SMALL[0][4:])
    holder, key = data.draw(st.sampled_from(list(places(plain))))
    holder[key] = data.draw(JSON)
    only_our_error(framed(plain))
