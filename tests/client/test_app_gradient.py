"""A node that is asked for a gradient: what it checks, what leaves it, and what it keeps."""

from dataclasses import replace
from hashlib import sha256

import pytest

from common.adapters.codec import DecodeLimits, encode_adapter
from common.adapters.joined import stack_adapters
from common.protocol.assignment import CountedReply, Training
from common.protocol.messages import assignment_values, reply_form, unpack_update
from common.protocol.payload import Payload
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, reason_of, values_of

ASKED = {"targets": "query-value", "gradients": "compressed-gradient"}
TRAINING = Training((1e-2,) * 2, batch=4, draw=5)


class ExchangeServer(Server):
    """A server's requests for gradients."""

    counted = CountedReply()

    def __init__(self, file):
        super().__init__(file)
        self.assignment = replace(self.assignment, returns="compressed-gradient", reply_rank=1)
        whole = encode_adapter(stack_adapters(self.assignment.frozen, self.assignment.start))
        self.order = replace(self.order, parent=sha256(whole).hexdigest())

    def values(self, round_id=None):
        own = assignment_values(self.assignment, TRAINING) | self.counted.to_values()
        return own | {"cohort": self.cohort} | (round_id or self.order).to_values()


@pytest.fixture
def node(tmp_path):
    return write_node(tmp_path, policy={"gradients": True})


def test_its_reply_has_the_form_that_was_asked_and_its_memory_names_it(node):
    server = ExchangeServer(node)
    reply = server.train()
    values = values_of(reply)
    assert (values["examples"], values["noise"] > 0) == (10, True)
    blob = Payload.from_message(reply).blob
    assert unpack_update(blob, server.assignment, DecodeLimits()).shapes == reply_form(server.assignment).shapes
    memory = (node.with_suffix(".state") / "gradient-memory").read_bytes()
    assert sha256(blob).hexdigest().encode() in memory


def test_the_next_request_goes_on_from_the_reply_that_counted(node):
    server = ExchangeServer(node)
    first = Payload.from_message(server.train()).blob
    assert Payload.from_message(server.train()).blob == first  # an attempt in vain changes nothing
    server.counted = CountedReply(1, sha256(first).hexdigest(), 1.0)
    server.order = replace(server.order, round=2)
    assert Payload.from_message(server.train()).blob != first  # the same rows, with what was left out


@pytest.mark.parametrize("part", ["frozen", "start"])
def test_factors_that_are_not_those_of_the_round_are_declined(node, part):
    server = ExchangeServer(node)
    values_of(server.train())  # control
    other = Server(node).assignment
    bigger = {name: replace(f, b=2 * f.b) for name, f in getattr(other, part).items()}
    server.assignment = replace(server.assignment, **{part: type(other.start)(bigger)})
    assert reason_of(server.train()) == "policy"


def test_a_node_that_cannot_keep_its_memory_says_so_when_it_is_asked_to_take_part(node):
    assert values_of(ask(node, "query", ASKED))["name"] == "clinic"
    folder = node.with_suffix(".state")
    folder.rmdir()
    folder.write_text("in the way")
    assert reason_of(ask(node, "query", ASKED)) == "settings"
    assert values_of(ask(node, "query", {"targets": "query-value"}))["name"] == "clinic"  # other rules need none


def test_the_rank_that_a_policy_bounds_is_that_of_what_is_sent(tmp_path):
    file = write_node(tmp_path, policy={"gradients": True, "max_rank": 1})
    server = ExchangeServer(file)
    assert server.assignment.start.rank > 1
    values_of(server.train())
    server.assignment = replace(server.assignment, reply_rank=2)
    assert reason_of(server.train()) == "policy"
