"""What a node answers to a message that no server of this release sends: a word, and one line for its owner."""

import logging

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from client.network.responder import Responder
from common.errors import TransportError
from common.protocol.channel import NOTICE
from common.protocol.flower import give_id, identify
from common.protocol.frames import decode_message
from tests.helpers.end_to_end.transport import RecordingAuditor


@pytest.fixture
def responder():
    answering = Responder(ClientApp, None, RecordingAuditor())
    answering.prepare()
    return answering


def message_of(kind, records):
    identify()
    return give_id(Message(RecordDict(records), 7, kind, ttl=60, group_id="3"), "an id")


@pytest.mark.parametrize("kind", ["query.other", "evaluate.again"])
@pytest.mark.parametrize("records", [{"values": ConfigRecord({"run": "r"})}, {}, {"values": ConfigRecord({"run": 3})}])
def test_another_request_is_answered_by_a_word_without_a_traceback(responder, kind, records, caplog):
    caplog.set_level(logging.INFO)
    frames = responder.reply_to(message_of(kind, records))
    assert decode_message(next(frames), frames, 0).error.reason in ("failed", "policy")
    (line,) = caplog.records
    assert line.exc_info is None


def test_a_notice_of_another_form_is_our_error(responder):
    responder.reply_to(message_of(NOTICE, {"values": ConfigRecord({"run": "r"})}))
    with pytest.raises(TransportError, match="not one of fedlora"):
        responder.reply_to(message_of(NOTICE, {}))
