"""A buffer that was received is held until the next one, and another is told by an error."""

from hashlib import sha256

import pytest

from client.held_buffers import read_parts
from common.adapters.link_codecs import MissingBuffer
from common.errors import ConfigError
from common.protocol.payload import Payload

ONE, TWO = b"1" * 100, b"2" * 100


def by_hash(buffer):
    return Payload({"codec": "by-hash"}, parts={"frozen": b"#" + sha256(buffer).hexdigest().encode()})


def in_full(buffer):
    return Payload({"codec": "by-hash"}, parts={"frozen": buffer})


def test_a_buffer_is_held_until_the_next():
    assert read_parts(in_full(ONE)).parts == {"frozen": ONE}
    assert read_parts(Payload({})).parts == {}
    assert read_parts(by_hash(ONE)).parts == read_parts(by_hash(ONE)).parts == {"frozen": ONE}
    read_parts(in_full(TWO))
    assert read_parts(by_hash(TWO)).parts == {"frozen": TWO}
    with pytest.raises(MissingBuffer):
        read_parts(by_hash(ONE))
    assert read_parts(by_hash(TWO)).parts == {"frozen": TWO}  # what failed has changed nothing


def test_an_unknown_codec_is_named():
    with pytest.raises(ConfigError, match="'int8'"):
        read_parts(Payload({"codec": "int8"}, parts={"frozen": ONE}))
