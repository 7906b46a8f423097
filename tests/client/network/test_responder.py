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
from common.protocol.payload import Payload
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


@pytest.mark.parametrize(
    ("ends", "run", "fault"),
    [(True, "other", "labels: the run has [1], the node [2]"), (True, "own", None), (False, "other", None)],
)
def test_found_A6_a_node_of_another_fingerprint_ends_once_it_has_announced_itself(ends, run, fault):
    app = ClientApp()

    @app.query()
    def query(message, context):
        own = {"fingerprint": "own", "parts": ["labels"], "part_values": ["[2]"]}
        return Message(Payload(own).to_records(), reply_to=message)

    responder = Responder(lambda: app, None, RecordingAuditor(), ends_refused=ends)
    responder.prepare()
    asked = {"base": run, "parts": ["labels"], "part_values": ["[1]"]}
    frames = responder.reply_to(message_of("query", Payload(asked).to_records()))
    assert decode_message(next(frames), frames, 0).has_content()  # the server hears it all the same
    assert (fault in str(responder.fault)) if fault else responder.fault is None
