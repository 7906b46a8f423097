"""Values of a message are read back in full, or the first that is wrong has its word."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import TransportError
from common.protocol.assignment import Training
from common.protocol.messages import RoundId
from common.protocol.replies import MAX_COUNT, LossReply, TrainReply
from common.protocol.round_notice import RoundNotice
from common.protocol.values import InvalidValue

REPLY = TrainReply(run="r", round=3, parent="p", base="b", examples=40, tokens=900, loss=0.25)


@given(st.integers(1, MAX_COUNT), st.integers(1, MAX_COUNT), st.floats(allow_nan=False, allow_infinity=False))
def test_a_reply_is_read_back(examples, tokens, loss):
    reply = TrainReply(run="r", round=1, parent="p", base="b", phase=2, examples=examples, tokens=tokens, loss=loss)
    assert TrainReply.from_values(reply.to_values() | {"more": 1}) == reply


def test_a_tuple_travels_as_a_list():
    training = Training((0.1, 0.2), 4, phase=2)
    assert training.to_values()["learning_rates"] == [0.1, 0.2]
    assert Training.from_values(training.to_values()) == training


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rates", value) for value in (None, 0.1, "0.1", [1], ["0.1"], (0.1,))),
        *(("batch", value) for value in (0, -1, True, "4", 4.0, None)),
        *(("accumulate", 0), ("clip", 1), ("clip", -0.5), ("dropout", 1.5), ("dropout", float("nan"))),
        *(("checkpointing", 1), ("seed", -1), ("round", "1"), ("phase", 0)),
    ],
)
def test_training_of_another_form_is_refused(name, value):
    values = Training((0.1, 0.2), 4).to_values()
    assert Training.from_values(values)
    with pytest.raises(InvalidValue, match=name):
        Training.from_values(values | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("examples", 0, "weight"),
        ("examples", True, "weight"),
        ("tokens", MAX_COUNT + 1, "weight"),
        ("tokens", None, "weight"),
        ("loss", float("nan"), "nan"),
        ("loss", float("inf"), "nan"),
        ("loss", 1, "malformed"),
        ("tokens", 10**400, "weight"),
    ],
)
def test_a_wrong_value_has_its_word(name, value, word):
    with pytest.raises(InvalidValue, match=name) as invalid:
        TrainReply.from_values(REPLY.to_values() | {name: value})
    assert invalid.value.reason == word


OPTIONAL = {"noise"}
"""Fields that earlier releases do not send."""


@pytest.mark.parametrize("field", [field.name for field in fields(TrainReply) if field.name not in OPTIONAL])
def test_no_value_may_be_missing(field):
    """Not even one with a default: the round is what the server asked for, repeated."""
    with pytest.raises(InvalidValue, match=field):
        TrainReply.from_values({name: value for name, value in REPLY.to_values().items() if name != field})


def without(message, *names):
    return {name: value for name, value in message.to_values().items() if name not in names}


def test_what_earlier_releases_do_not_send_has_its_default():
    assert TrainReply.from_values(without(REPLY, *OPTIONAL)) == REPLY
    training = Training((0.1, 0.2), 4)
    assert Training.from_values(without(training, "draw", "begin")) == training
    with pytest.raises(InvalidValue, match="noise"):
        TrainReply.from_values(REPLY.to_values() | {"noise": -1.0})  # control: it is checked where it is there
    with pytest.raises(InvalidValue, match="batch"):
        Training.from_values(without(training, "batch"))


def test_a_reply_belongs_to_one_round_and_phase():
    round_id = RoundId("r", 3, "p", "b")
    assert REPLY.is_of(round_id)
    for other in ({"phase": 2}, {"round": 2}, {"attempt": 2}, {"parent": "q"}):
        assert not REPLY.is_of(RoundId.from_values(round_id.to_values() | other))


@pytest.mark.parametrize("count", [-1, 1.0, "1"])
def test_a_loss_is_counted(count):
    with pytest.raises(InvalidValue, match="count"):
        LossReply.from_values(REPLY.to_values() | {"count": count})


def test_no_integer_is_too_large_to_be_read():
    """Python compares it; a conversion to a float would raise an error of its own."""
    notice = RoundNotice(run="r", round=10**400, parent="p", adapter="a", updates=["u"])
    assert RoundNotice.from_values(notice.to_values()).round == 10**400
    assert LossReply.from_values(REPLY.to_values() | {"count": 10**400}).count == 10**400
    with pytest.raises(TransportError):
        RoundNotice.from_values(notice.to_values() | {"updates": ["u", 1]})
