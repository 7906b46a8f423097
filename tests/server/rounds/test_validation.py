"""A reply that isn't what was asked is refused by the right word."""

from dataclasses import replace

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import encode_adapter
from common.protocol.assignment import Assignment, Training, Update
from common.protocol.messages import RoundId, pack_update
from common.protocol.payload import Payload
from common.protocol.replies import MAX_COUNT
from server.rounds.validation import RejectedReply, validate_reply
from tests.helpers.common.buffers import PREFIX, claim, random_adapter, sealed
from tests.helpers.server.exchange import dense

ORDER = RoundId("run", 3, "parent", "base")
SENT = random_adapter({"q": (6, 5, 2), "v": (4, 8, 2)}, seed=1)
ASKED = Assignment(Adapter(), random_adapter({"q": (6, 5, 2), "v": (4, 8, 2)}), "both")
COMMON = replace(ASKED, trains="b")
VALUES = ORDER.to_values() | {"examples": 10, "tokens": 70, "loss": 0.5}
BLOB = encode_adapter(SENT)
STEPS = Training((0.1, 0.1, 0.1), batch=4, accumulate=2)


def reason(blob=BLOB, assignment=ASKED, without=None, **values):
    with pytest.raises(RejectedReply) as refused:
        sent = {key: value for key, value in (VALUES | values).items() if key != without}
        validate_reply(Payload(sent, blob), ORDER, assignment, STEPS)
    return refused.value.reason


def with_arrays(a=SENT["q"].a, b=SENT["q"].b):
    return encode_adapter(Adapter(dict(SENT) | {"q": Factors(a, b)}))


def test_what_was_asked_is_admitted():
    admitted = validate_reply(Payload(VALUES, BLOB), ORDER, ASKED, STEPS)
    assert (admitted.values.examples, admitted.values.tokens, admitted.values.loss) == (10, 70, 0.5)
    assert all(array.tobytes() == SENT.arrays()[name].tobytes() for name, array in admitted.adapter.arrays().items())
    assert all(array.base is not None for array in admitted.adapter.arrays().values())


def test_an_a_that_was_lent_is_completed():
    lent = Adapter({name: Factors(COMMON.start[name].a, f.b) for name, f in SENT.items()})
    admitted = validate_reply(Payload(VALUES, pack_update(Update(lent, 1, 1, 0.0), "b")), ORDER, COMMON, STEPS)
    assert all(np.array_equal(dense(admitted.adapter[name]), dense(factors)) for name, factors in lent.items())


def test_another_a_than_the_common_one_is_refused():
    assert reason(assignment=COMMON) == "malformed"
    assert reason(pack_update(Update(SENT, 1, 1, 0.0), "b"), ASKED) == "codec"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["a", "b"])
def test_numbers_that_are_none_are_refused(wrong, side):
    array = getattr(SENT["q"], side).copy()
    array[1, 1] = wrong
    assert reason(with_arrays(**{side: array})) == "nan"
    assert reason(loss=float(wrong)) == "nan"


def test_numbers_beyond_float32_are_refused():
    """Finite as they are, they would be infinite for all others, or end the algebra."""
    assert reason(encode_adapter(Adapter({n: Factors(1e300 * f.a, f.b) for n, f in SENT.items()}), "f64")) == "nan"
    assert reason(with_arrays(a=np.full((2, 5), 1e30, "f4"), b=np.full((6, 2), 1e30, "f4"))) == "nan"
    large = with_arrays(a=np.full((2, 5), 1e15, "f4"), b=np.full((6, 2), 1e15, "f4"))
    assert validate_reply(Payload(VALUES, large), ORDER, ASKED, STEPS)


@pytest.mark.parametrize("key", ["examples", "tokens"])
@pytest.mark.parametrize("wrong", [0, -1, 10**12, MAX_COUNT + 1, 1.5, True, "1", None, [1]])
def test_weights_that_are_no_counts_are_refused(key, wrong):
    assert reason(**{key: wrong}) == "weight"
    assert reason(without=key) == "weight"


def test_a_reply_counts_no_more_rows_than_its_steps_read():
    """Of 3 steps of 2 passes of 4 rows; fewer are honest, as batches may be smaller."""
    for count in (1, 24):
        assert validate_reply(Payload(VALUES | {"examples": count}, BLOB), ORDER, ASKED, STEPS)
    for count in (25, 5000, MAX_COUNT):
        assert reason(examples=count) == "weight"


@pytest.mark.parametrize("change", [{"round": 2}, {"round": "3"}, {"run": "other"}, {"parent": "other"}])
def test_another_round_is_stale(change):
    assert reason(**change) == "stale"


def test_another_base_is_told_apart():
    assert reason(base="other") == "base"
    assert reason(base="other", round=2) == "base"


@pytest.mark.parametrize("key", ["run", "round", "parent", "base", "loss"])
def test_a_value_that_is_missing_is_malformed(key):
    assert reason(without=key) == "malformed"


@pytest.mark.parametrize("wrong", [1, "0.5", None, True, [0.5]])
def test_a_loss_that_is_no_number_is_malformed(wrong):
    assert reason(loss=wrong) == "malformed"


def test_other_modules_and_shapes_are_refused():
    assert reason(encode_adapter(Adapter({"q": SENT["q"], "w": SENT["v"]}))) == "shape"
    assert reason(encode_adapter(Adapter({"q": SENT["q"]}))) == "shape"
    assert reason(encode_adapter(Adapter(dict(SENT) | {"w": SENT["v"]}))) == "shape"
    assert reason(encode_adapter(random_adapter({"q": (5, 6, 2), "v": (4, 8, 2)}))) == "shape"
    assert reason(encode_adapter(Adapter())) == "shape"


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_another_rank_is_refused(rank):
    assert reason(encode_adapter(random_adapter({"q": (6, 5, rank), "v": (4, 8, 2)}))) == "rank"


@pytest.mark.parametrize("blob", [b"", BLOB[:-1], BLOB + b"\0", BLOB[:PREFIX], b"x" + BLOB[1:], BLOB[::-1]])
def test_a_buffer_that_is_broken_is_refused(blob):
    assert reason(blob) == "codec"


def test_a_flipped_bit_is_refused():
    changed = bytearray(BLOB)
    changed[-3] ^= 1
    assert reason(bytes(changed)) == "codec"


def test_zeros_that_need_not_be_sent_are_bounded_by_what_was_asked():
    def without_b(d):
        return sealed(claim({"q": (d, 5, 2, "a"), "v": (4, 8, 2, "ab")}), bytes(4 * (2 * 5 + 2 * 8 + 4 * 2)))

    assert not validate_reply(Payload(VALUES, without_b(6)), ORDER, ASKED, STEPS).adapter["q"].b.any()
    assert reason(without_b(7)) == "shape"
    assert reason(without_b(2**30)) == "codec"  # before 8 GiB are allocated


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f64"])
def test_other_precisions_are_admitted(dtype):
    adapter = validate_reply(Payload(VALUES, encode_adapter(SENT, dtype)), ORDER, ASKED, STEPS).adapter
    assert all(np.allclose(dense(adapter[name]), dense(f), rtol=0.05, atol=0.05) for name, f in SENT.items())
