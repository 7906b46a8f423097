import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client.app import app
from client.node import adapted, load_node
from client.train import evaluate, train
from common.adapter import Adapter
from common.announcement import announced
from common.assignment import Assignment
from common.codec import Limits, encode
from common.flower import identify, with_id
from common.messages import Order, assignment_values, order_of, pack_assignment, unpack_update
from tests.client.nodes import write_node
from tests.client.training import PLAIN, gradients, same_bits
from tests.common.models_for_tests import random_adapter

CANARY = "canary-4711"


def _ask(file, kind, values, blob=b"", node_id=7, message_id="a"):
    """The reply of the node with this file, by way of Flower's own ClientApp."""
    identify()
    content = RecordDict({"values": ConfigRecord(dict(values))})
    if blob:
        content["adapter"] = ArrayRecord({"adapter": Array("uint8", (len(blob),), "fedlora.v1", blob)})
    context = Context(1, node_id, {"node": str(file)}, RecordDict(), {})
    return app(with_id(Message(content, node_id, kind), message_id), context)


class _Server:
    """What a server knows of one node, and what it asks of it."""

    def __init__(self, file, trains="both"):
        self.file = file
        self.node = announced(dict(_ask(file, "query", {"targets": "query-value"}).content["values"]))
        self.order = Order("run 1", 1, "parent", self.node.fingerprint)
        frozen, start = (random_adapter(self.node.shapes, (rank,), rank) for rank in (3, 2))
        self.assignment = Assignment(frozen, start, trains, 0.5)

    def train(self, blob=None, order=None, **flower):
        values = asdict(order or self.order) | assignment_values(self.assignment, PLAIN)
        return _ask(self.file, "train", values, pack_assignment(self.assignment) if blob is None else blob, **flower)

    def evaluate(self, adapter=None, order=None, blob=None):
        sent = encode(adapter or self.assignment.frozen) if blob is None else blob
        return _ask(self.file, "evaluate", asdict(order or self.order), sent)


@pytest.fixture
def server(tmp_path):
    return _Server(write_node(tmp_path))


def _values(reply):
    assert not reply.has_error(), reply.error
    return dict(reply.content["values"])


def _refused(reply):
    assert reply.has_error()
    assert not reply.has_content()
    return reply.error.reason


def _update(reply, assignment):
    return unpack_update(reply.content["adapter"]["adapter"].data, assignment, Limits(max_bytes=1 << 20))


@pytest.mark.parametrize("targets", ["query-value", ["query", "value"]])
def test_a_query_is_answered_by_an_announcement(tmp_path, targets):
    reply = _ask(write_node(tmp_path, name="clinic", rank=3), "query", {"targets": targets})
    said = announced(_values(reply))
    assert (said.name, said.rank, said.rows, len(said.shapes)) == ("clinic", 3, 24, 5)
    assert not reply.content.array_records


@pytest.mark.parametrize(("kind", "task"), [("bert", "classification"), ("llama", "causal-lm")])
@pytest.mark.parametrize("trains", ["both", "b"])
def test_a_trained_round_is_what_the_engine_trains(tmp_path, kind, task, trains):
    server = _Server(write_node(tmp_path, kind, task=task), trains)
    reply = server.train()
    values = _values(reply)
    assert order_of(values) == server.order
    node = load_node(server.file)
    expected = _direct(node, server.assignment)
    assert same_bits(_update(reply, server.assignment), expected.adapter)
    assert all(values[key] == getattr(expected, key) for key in ("examples", "tokens", "loss"))
    assert not same_bits(expected.adapter, server.assignment.start)  # control


def _direct(node, assignment):
    skeleton, lora = adapted(node.base, tuple(assignment.start))
    return train(skeleton, lora, [assignment], [node.settings.name], [node.train], PLAIN)[0]


def test_a_message_carries_one_array_of_our_own_type(server):
    records = server.train().content.array_records
    assert [(name, list(record)) for name, record in records.items()] == [("adapter", ["adapter"])]
    array = records["adapter"]["adapter"]
    assert (array.dtype, array.stype, array.shape) == ("uint8", "fedlora.v1", (len(array.data),))


def test_an_a_that_was_lent_is_not_sent_back(tmp_path):
    sizes = [
        len(_Server(write_node(tmp_path / t), t).train().content["adapter"]["adapter"].data) for t in ("both", "b")
    ]
    lent = sum(f.a.nbytes for f in _Server(tmp_path / "b" / "client.toml").assignment.start.values())
    assert sizes[0] - sizes[1] >= lent


def test_a_reply_depends_on_the_nodes_name_and_not_on_flowers_numbers(tmp_path):
    server = _Server(write_node(tmp_path))
    one, two = server.train(), server.train(node_id=99, message_id="b")
    assert one.content["adapter"]["adapter"].data == two.content["adapter"]["adapter"].data
    assert _values(one) == _values(two)
    other = _Server(write_node(tmp_path / "other", name="hospital"))
    assert other.train().content["adapter"]["adapter"].data != one.content["adapter"]["adapter"].data


def test_the_loss_of_an_update_is_measured_on_rows_that_are_not_trained_on(server):
    values = _values(server.evaluate())
    node = load_node(server.file)
    skeleton, lora = adapted(node.base, tuple(server.node.shapes))
    held, trained = (evaluate(skeleton, lora, server.assignment.frozen, rows) for rows in (node.held, node.train))
    assert order_of(values) == server.order
    assert (values["loss"], values["count"]) == (held.loss, len(node.held))
    assert values["loss"] != trained.loss
    assert not {id(row) for row in node.held.rows} & {id(row) for row in node.train.rows}


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_an_order_for_another_base_is_refused_before_any_step(server, kind):
    other = replace(server.order, base="0" * 64)
    passes = _count_passes(server)
    with gradients() as steps:
        assert _refused(getattr(server, kind)(order=other)) == "base"
    assert (steps, passes) == ([], [])
    with gradients() as steps:
        _values(getattr(server, kind)())  # control: the same order for this base
    assert (len(steps) > 0, len(passes) > 0) == (kind == "train", True)


def _count_passes(server):
    skeleton, _ = adapted(load_node(server.file).base, tuple(server.node.shapes))
    passes = []
    skeleton.model.bert.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_an_order_for_other_targets_is_refused(server):
    start = server.assignment.start
    server.assignment = replace(server.assignment, start=Adapter({n: f for n, f in start.items() if n != "classifier"}))
    assert _refused(server.train()) == "base"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("spoil", [lambda blob: b"", lambda blob: b"x" * 100, lambda blob: blob[:-1]])
def test_a_malformed_buffer_is_refused_before_any_step(server, kind, spoil):
    whole = pack_assignment(server.assignment) if kind == "train" else encode(server.assignment.frozen)
    with gradients() as steps:
        assert _refused(getattr(server, kind)(blob=spoil(whole))) == "codec"
    assert not steps


def test_a_flipped_byte_is_refused(server):
    blob = bytearray(pack_assignment(server.assignment))
    for place in np.linspace(0, len(blob) - 1, 20).astype(int):
        blob[place] ^= 4
        assert _refused(server.train(bytes(blob))) == "codec"
        blob[place] ^= 4
    _values(server.train(bytes(blob)))  # control


@pytest.mark.parametrize("missing", ["base", "trains", "learning_rates", "batch"])
def test_a_message_without_a_value_is_refused(server, missing):
    values = asdict(server.order) | assignment_values(server.assignment, PLAIN)
    del values[missing]
    assert _refused(_ask(server.file, "train", values, pack_assignment(server.assignment))) == "failed"


def _bad_data_path(folder):
    return write_node(folder, data=f"{CANARY}.jsonl")


def _bad_row(folder):
    file = write_node(folder)
    (folder / "rows.jsonl").write_text(f'{{"text": "a cow", "label": "{CANARY}"}}\n' * 2)
    return file


def _bad_base(folder):
    return write_node(folder, base=f"/{CANARY}/base")


def _base_name_too_long(folder):
    """What Python then raises is an OSError of its own, not one of ours."""
    return write_node(folder, base=f"/{CANARY * 30}")


def _bad_setting(folder):
    return write_node(folder, dtype=CANARY)


def _no_file(folder):
    return folder / f"{CANARY}.toml"


@pytest.mark.parametrize("spoil", [_bad_data_path, _bad_row, _bad_base, _base_name_too_long, _bad_setting, _no_file])
@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_what_went_wrong_stays_in_the_nodes_own_log(tmp_path, caplog, spoil, kind):
    with caplog.at_level(logging.ERROR, "client.app"):
        reply = _ask(spoil(tmp_path), kind, {"targets": "query-value"}, b"x")
    assert _refused(reply) == "failed"
    assert CANARY not in repr(reply)
    assert CANARY not in str(reply.error)
    assert CANARY in caplog.text  # control: the text was there to be sent
