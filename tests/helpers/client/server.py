"""A server's requests to a node, through Flower's own ClientApp, and the contents of the replies."""

from dataclasses import asdict, replace
from hashlib import sha256

from flwr.app import Context, Message, RecordDict

from client.app import app
from common.adapters.codec import encode_adapter
from common.protocol.announcement import Announcement
from common.protocol.assignment import Assignment
from common.protocol.flower import give_id, identify
from common.protocol.messages import RoundId, assignment_values, pack_assignment, pack_terms
from common.protocol.payload import Payload
from tests.helpers.client.training import PLAIN
from tests.helpers.common.models import random_adapter


def ask(file, kind, values, blob=b"", parts=None, node_id=7, message_id="a", **config):
    """Return the reply of the node with this file and this configuration, through Flower's own ClientApp."""
    identify()
    content = Payload(values, blob, parts or {}).to_records()
    context = Context(1, node_id, {"node": str(file), **config}, RecordDict(), {})
    return app(give_id(Message(content, node_id, kind), message_id), context)


class Server:
    """A server's knowledge of one node, and its requests to it."""

    def __init__(self, file, trains="both"):
        self.file = file
        self.node = Announcement.from_values(dict(ask(file, "query", {"targets": "query-value"}).content["values"]))
        frozen, start = (random_adapter(self.node.model.shapes, (rank,), rank) for rank in (3, 2))
        parent = sha256(encode_adapter(frozen)).hexdigest()
        self.order, self.cohort = RoundId("run 1", 1, parent, self.node.model.fingerprint), 3
        self.assignment = Assignment(frozen, start, trains, 0.5)

    def values(self, round_id=None):
        return assignment_values(self.assignment, PLAIN) | {"cohort": self.cohort} | asdict(round_id or self.order)

    def train(self, blob=None, round_id=None, parts=None, codec="plain", **flower):
        start = pack_assignment(self.assignment) if blob is None else blob
        values = self.values(round_id) | {"codec": codec}
        return ask(self.file, "train", values, start, self.parts | (parts or {}), **flower)

    @property
    def parts(self):
        return {"frozen": encode_adapter(self.assignment.frozen)} | pack_terms(self.assignment)

    def evaluate(self, adapter=None, round_id=None, blob=None):
        sent = encode_adapter(adapter or self.assignment.frozen) if blob is None else blob
        order = round_id or replace(self.order, parent=sha256(sent).hexdigest())
        return ask(self.file, "evaluate", asdict(order), parts={"frozen": sent})


def values_of(reply):
    """Return the plain values of a reply in which the node does not decline."""
    assert not reply.has_error(), reply.error
    return dict(reply.content["values"])


def reason_of(reply):
    """Return the reason word of a reply in which the node declines, and which contains nothing else."""
    assert reply.has_error()
    assert not reply.has_content()
    return reply.error.reason
