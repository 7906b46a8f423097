"""What a node received last is held, of each kind and for each node by itself; another is told by an error."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from client.memory import held_buffers
from client.memory.held_buffers import read_parts
from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import encode_adapter
from common.adapters.joined import leading_ranks
from common.adapters.link_codecs import Held, MissingBuffer, codec_named
from common.errors import CodecError, ConfigError
from common.protocol.payload import Payload
from tests.helpers.common.buffers import random_adapter

ONE, TWO, THREE = b"1" * 100, b"2" * 100, b"3" * 100


def by_hash(buffer):
    return Payload({"codec": "by-hash"}, parts={"frozen": b"#" + sha256(buffer).hexdigest().encode()})


def in_full(buffer):
    return Payload({"codec": "by-hash"}, parts={"frozen": buffer})


ADA, BOB = Path("ada.toml"), Path("bob.toml")


@pytest.fixture(autouse=True)
def _another_process():
    held_buffers._held.clear()
    yield
    held_buffers._held.clear()


def read(payload, kind="train", node=ADA):
    return read_parts(payload, kind, node)


def test_the_last_two_of_a_kind_are_held():
    """A reply to the second may be lost, and the server goes on from the first."""
    for buffer in (ONE, TWO):
        assert read(in_full(buffer)).parts == {"frozen": buffer}
    assert read(Payload({})).parts == {}
    assert [read(by_hash(buffer)).parts["frozen"] for buffer in (ONE, TWO, TWO, ONE)] == [ONE, TWO, TWO, ONE]
    read(in_full(THREE))
    with pytest.raises(MissingBuffer):
        read(by_hash(TWO))
    assert read(by_hash(ONE)).parts == {"frozen": ONE}  # what failed has changed nothing


def test_other_kinds_do_not_displace_it():
    read(in_full(ONE))
    for buffer in (TWO, THREE):
        read(in_full(buffer), "evaluate")
    assert read(by_hash(ONE)).parts == {"frozen": ONE}


def test_a_node_holds_nothing_of_another_and_equal_buffers_are_in_memory_once():
    first = read(in_full(ONE)).parts["frozen"]
    with pytest.raises(MissingBuffer):
        read(by_hash(ONE), node=BOB)
    read(in_full(bytes(bytearray(ONE))), node=BOB)
    assert read(by_hash(ONE), node=BOB).parts["frozen"] is first


def change(before, after):
    """Return a change between two global updates, and the second."""
    one, two = (
        encode_adapter(leading_ranks(random_adapter({"q": (30, 30, 9)}, 1), [rank])) for rank in (before, after)
    )
    digest = sha256(two).hexdigest()
    sent = codec_named("by-change").encode(two, digest, [Held.of(one, sha256(one).hexdigest())], "float32")
    return one, two, Payload({"codec": "by-change"}, parts={"frozen": sent})


def test_a_result_that_another_node_has_made_is_taken_only_by_one_that_holds_its_beginning():
    one, two, sent = change(6, 9)
    for node in (ADA, BOB):
        read(in_full(one), node=node)
    made = read(sent).parts["frozen"]
    assert made == two
    assert read(sent, node=BOB).parts["frozen"] is made
    with pytest.raises(MissingBuffer):
        read(sent, node=Path("cyd.toml"))


@pytest.mark.parametrize("mark", [b"*", b"+"])
def test_only_the_global_update_may_grow(mark):
    _, _, sent = change(6, 9)
    part = sent.parts["frozen"] if mark == b"+" else b"*" + encode_adapter(random_adapter({"q": (3, 3, 1)}), "i8")
    with pytest.raises(CodecError, match="only the global update"):
        read(Payload({"codec": "by-change"}, parts={"control-variate": part}))


def test_an_update_that_names_factors_without_sending_them_is_refused():
    """The control has them: 200 bytes would become as many as their shapes say."""
    large = Adapter({"q": Factors(np.zeros((1, 2**20), "f4"), np.zeros((2**20, 1), "f4"))})
    named = b"*" + encode_adapter(large, "i8", {"q.a", "q.b"})
    assert len(named) < 300
    with pytest.raises(CodecError, match="lacks factors"):
        read(Payload({"codec": "by-change"}, parts={"frozen": named}))
    read(Payload({"codec": "by-change"}, parts={"frozen": b"*" + encode_adapter(large, "i8")}))


def test_an_unknown_codec_is_named():
    with pytest.raises(ConfigError, match="'int4'"):
        read(Payload({"codec": "int4"}, parts={"frozen": ONE}))
