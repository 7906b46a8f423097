"""Every link codec: what an end decodes is the buffer that was encoded."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters.codec import encode_adapter
from common.adapters.link_codecs import CODECS, MissingBuffer, codec_named
from tests.helpers.common.buffers import random_adapter

BUFFER = encode_adapter(random_adapter({"q": (6, 5, 2)}, 1))
HASH = sha256(BUFFER).hexdigest()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("held", [{}, {HASH: BUFFER}, {"0" * 64: b"other"}])
def test_decoding_undoes_encoding_whatever_the_node_holds(name, held):
    codec = codec_named(name)
    assert codec.decode(codec.encode(BUFFER, HASH, held), held) == BUFFER


def test_by_hash_sends_a_name_where_the_buffer_is_held():
    assert codec_named("by-hash").encode(BUFFER, HASH, {HASH}) == b"#" + HASH.encode()
    assert codec_named("by-hash").encode(BUFFER, HASH, {"0" * 64}) == BUFFER
    assert codec_named("plain").encode(BUFFER, HASH, {HASH}) == BUFFER


@given(st.binary(max_size=9) | st.binary(max_size=9).map(lambda rest: b"#" + rest) | st.just(b"=x"), st.booleans())
def test_the_law_holds_for_any_bytes(buffer, is_held):
    digest = sha256(buffer).hexdigest()
    held = {digest: buffer} if is_held else {}
    for codec in CODECS.values():
        assert codec.decode(codec.encode(buffer, digest, held), held) == buffer


@given(st.binary(max_size=80))
def test_a_name_of_nothing_that_is_held_is_missing(name):
    with pytest.raises(MissingBuffer):
        codec_named("by-hash").decode(b"#" + name, {HASH: BUFFER} if name != HASH.encode() else {})
