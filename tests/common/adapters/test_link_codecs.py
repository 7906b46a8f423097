"""Every link codec: what an end decodes is the buffer that was encoded."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters.codec import encode_adapter, read_layout
from common.adapters.joined import leading_ranks
from common.adapters.link_codecs import CODECS, Held, MissingBuffer, codec_named, form_of
from common.adapters.rounding import WIRES, round_adapter
from tests.helpers.common.buffers import random_adapter

SHAPES = {"head": (3, 9, 3), "q": (60, 50, 20), "v": (40, 50, 20)}
WIRE = pytest.mark.parametrize("wire", WIRES)


def sha(buffer):
    return sha256(buffer).hexdigest()


def version(ranks, wire="float32", seed=1):
    """Return a global update of these ranks: a leading part of one adapter."""
    return encode_adapter(leading_ranks(round_adapter(random_adapter(SHAPES, seed), wire, "k"), ranks))


WHOLE = (3, 20, 20)
BUFFER = version(WHOLE)


def held_by_hash(*buffers):
    return {sha(buffer): buffer for buffer in buffers}


def described(*buffers):
    return [Held.of(buffer, sha(buffer)) for buffer in buffers]


@WIRE
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("ranks", [(), (0, 0, 0), (3, 8, 4), (1, 20, 0), WHOLE])
def test_decoding_undoes_encoding_whatever_the_node_holds(name, wire, ranks):
    buffer, held = version(WHOLE, wire), [version(ranks, wire)] if ranks else []
    codec = codec_named(name)
    sent = codec.encode(buffer, sha(buffer), described(*held), wire)
    assert codec.decode(sent, held_by_hash(*held)) == buffer


@WIRE
def test_a_change_has_the_size_of_its_rank(wire):
    buffer, before = version(WHOLE, wire), version((3, 16, 16), wire)
    codec, per_number = codec_named("by-change"), {"float32": 4, "bfloat16": 2, "int8": 1}[wire]
    change = codec.encode(buffer, sha(buffer), described(before), wire)
    whole = codec.encode(buffer, sha(buffer), [], wire)
    assert (form_of(change), form_of(whole)) == ("change", "whole")
    numbers = 4 * (60 + 50 + 40 + 50)
    assert per_number * numbers < len(change) < 1.1 * per_number * numbers + 500
    assert len(whole) > 4 * (len(change) - 500)
    held = codec.encode(buffer, sha(buffer), described(buffer), wire)
    assert (form_of(held), len(held)) == ("held", 65)


def test_the_smallest_of_several_forms_is_sent():
    near, far, other = version((3, 18, 18)), version((3, 2, 2)), version((3, 19, 19), seed=2)
    codec = codec_named("by-change")
    sent = [codec.encode(BUFFER, sha(BUFFER), described(*held), "float32") for held in ((far, near), (far,), (other,))]
    assert [form_of(each) for each in sent] == ["change", "change", "whole"]
    assert len(sent[0]) < len(sent[1]) < len(sent[2])
    assert sent[2] == BUFFER


@pytest.mark.parametrize("ranks", [(3, 16), (3, 16, 21), (3, 16, 15)])
def test_ranks_that_are_not_those_of_the_hash_give_the_whole(ranks):
    claimed = Held(sha(version((3, 16, 16))), ranks)
    assert codec_named("by-change").encode(BUFFER, sha(BUFFER), [claimed], "float32") == BUFFER


def test_a_result_that_is_held_already_is_not_made_again():
    before = version((3, 16, 16))
    sent = codec_named("by-change").encode(BUFFER, sha(BUFFER), described(before), "float32")
    assert codec_named("by-change").decode(sent, held_by_hash(BUFFER)) is BUFFER
    with pytest.raises(MissingBuffer):
        codec_named("by-change").decode(sent, {})


def test_a_change_that_does_not_lead_to_its_hash_is_missing():
    """As where two machines compute the same factors with other bits: the whole is sent."""
    before, other = version((3, 16, 16)), version((3, 16, 16), seed=2)
    sent = codec_named("by-change").encode(BUFFER, sha(BUFFER), described(before), "float32")
    with pytest.raises(MissingBuffer, match="does not lead"):
        codec_named("by-change").decode(sent, {sha(before): other})


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_packs_a_whole_in_the_wires_type(name):
    sizes = [len(codec_named(name).encode(version(WHOLE, wire), sha(version(WHOLE, wire)), [], wire)) for wire in WIRES]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


def test_by_hash_sends_a_name_where_the_buffer_is_held():
    assert (
        codec_named("by-hash").encode(BUFFER, sha(BUFFER), described(BUFFER), "float32") == b"#" + sha(BUFFER).encode()
    )
    assert codec_named("by-hash").encode(BUFFER, sha(BUFFER), [Held("0" * 64)], "float32") == BUFFER
    assert codec_named("plain").encode(BUFFER, sha(BUFFER), described(BUFFER), "float32") == BUFFER


def test_a_buffer_of_factors_that_are_not_whole_has_no_ranks():
    without_b = encode_adapter(random_adapter(SHAPES, 1), omit={f"{name}.b" for name in SHAPES})
    packed = encode_adapter(random_adapter(SHAPES, 1), "i8")
    assert [Held.of(buffer, "").ranks for buffer in (without_b, packed, b"no adapter", BUFFER)] == [(), (), (), WHOLE]
    assert read_layout(packed).dtype == "i8"


@given(st.binary(max_size=9) | st.binary(max_size=9).map(lambda rest: b"#" + rest) | st.just(b"=x"), st.booleans())
def test_the_law_holds_for_any_bytes(buffer, is_held):
    held = [buffer] if is_held else []
    for codec in CODECS.values():
        sent = codec.encode(buffer, sha(buffer), described(*held), "float32")
        assert codec.decode(sent, held_by_hash(*held)) == buffer


@given(st.binary(max_size=80))
def test_a_name_of_nothing_that_is_held_is_missing(name):
    with pytest.raises(MissingBuffer):
        codec_named("by-hash").decode(b"#" + name, {} if name == sha(BUFFER).encode() else held_by_hash(BUFFER))
