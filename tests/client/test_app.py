import pytest

from client.node import attach_lora, load_node
from client.training.evaluate import evaluate
from client.training.train import train
from common.adapters.codec import DecodeLimits
from common.protocol.announcement import Announcement
from common.protocol.messages import RoundId, unpack_update
from simulations.architectures.trial import write_base
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, reason_of, values_of
from tests.helpers.client.training import PLAIN, same_bits


def _update(reply, assignment):
    return unpack_update(reply.content["adapter"]["adapter"].data, assignment, DecodeLimits(max_bytes=1 << 20))


@pytest.mark.parametrize("targets", ["query-value", ["query", "value"]])
def test_a_query_is_answered_by_an_announcement(tmp_path, targets):
    reply = ask(write_node(tmp_path, name="clinic", rank=3), "query", {"targets": targets})
    said = Announcement.from_values(values_of(reply))
    assert (said.name, said.rank, said.rows, len(said.model.shapes)) == ("clinic", 3, 24, 5)
    assert not reply.content.array_records


def test_found_B1_a_node_of_a_run_that_has_begun_keeps_the_modules_of_the_run(tmp_path):
    base = write_base("mamba", "causal-lm", tmp_path / "base")
    file = write_node(tmp_path, base=str(base), task="causal-lm")
    unfit = "backbone.layers.0.mixer.out_proj"
    for targets in ("all-linear", ["in_proj", "out_proj"]):
        begun = ask(file, "query", {"targets": targets, "begun": [unfit, "backbone.layers.1.mixer.out_proj"]})
        assert unfit in Announcement.from_values(values_of(begun)).model.shapes
    new = ask(file, "query", {"targets": "all-linear"})
    assert unfit not in Announcement.from_values(values_of(new)).model.shapes
    assert reason_of(ask(file, "query", {"targets": ["out_proj"]})) == "settings"


@pytest.mark.parametrize(("kind", "task"), [("bert", "classification"), ("llama", "causal-lm")])
@pytest.mark.parametrize("trains", ["both", "b"])
def test_a_trained_round_is_what_the_engine_trains(tmp_path, kind, task, trains):
    server = Server(write_node(tmp_path, kind, task=task), trains)
    reply = server.train()
    values = values_of(reply)
    assert RoundId.from_values(values) == server.order
    node = load_node(server.file)
    expected = _direct(node, server.assignment)
    assert same_bits(_update(reply, server.assignment), expected.adapter)
    assert all(values[key] == getattr(expected, key) for key in ("examples", "tokens", "loss"))
    assert not same_bits(expected.adapter, server.assignment.start)  # control


def _direct(node, assignment):
    skeleton, lora = attach_lora(node.base, tuple(assignment.start))
    return train(skeleton, lora, [assignment], [node.settings.name], [node.train], PLAIN)[0]


def test_a_message_carries_one_array_of_our_own_type(server):
    records = server.train().content.array_records
    assert [(name, list(record)) for name, record in records.items()] == [("adapter", ["adapter"])]
    array = records["adapter"]["adapter"]
    assert (array.dtype, array.stype, array.shape) == ("uint8", "fedlora.v1", (len(array.data),))


def test_an_a_that_was_lent_is_not_sent_back(tmp_path):
    file = write_node(tmp_path)
    both, alone = (Server(file, trains).train().content["adapter"]["adapter"].data for trains in ("both", "b"))
    lent = sum(factors.a.nbytes for factors in Server(file).assignment.start.values())
    assert len(both) - len(alone) >= lent


def test_a_reply_depends_on_the_nodes_name_and_not_on_flowers_numbers(tmp_path):
    server = Server(write_node(tmp_path))
    one, two = server.train(), server.train(node_id=99, message_id="b")
    assert one.content["adapter"]["adapter"].data == two.content["adapter"]["adapter"].data
    assert values_of(one) == values_of(two)
    other = Server(write_node(tmp_path / "other", name="hospital"))
    assert other.train().content["adapter"]["adapter"].data != one.content["adapter"]["adapter"].data


def test_the_loss_of_an_update_is_measured_on_rows_that_are_not_trained_on(server):
    values = values_of(server.evaluate())
    node = load_node(server.file)
    skeleton, lora = attach_lora(node.base, tuple(server.node.model.shapes))
    held, trained = (evaluate(skeleton, lora, server.assignment.frozen, rows) for rows in (node.held, node.train))
    assert RoundId.from_values(values) == server.order
    assert (values["loss"], values["count"]) == (held.loss, len(node.held))
    assert values["loss"] != trained.loss
    assert sorted([*node.held.rows.order, *node.train.rows.order]) == list(range(len(node.held) + len(node.train)))
