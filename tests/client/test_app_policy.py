"""A node's own file decides what a server may ask; beyond it the node makes no step and says one word."""

import logging
from dataclasses import asdict, replace
from hashlib import sha256
from math import nextafter

import numpy as np
import pytest

import client.app
from client.policy import needed_bytes
from common.adapters.codec import encode_adapter
from common.heads.requests import ASKS, CLASS_SUMS, HEAD_LOSSES, HEADS, pack_heads
from common.planning.requests import MODULE_ENERGIES
from common.protocol.assignment import Term
from common.protocol.messages import assignment_values, pack_assignment
from server.rounds.log_line import adapter_hash
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, reason_of, values_of
from tests.helpers.client.training import PLAIN, gradients
from tests.helpers.common.models import random_adapter

CANARY = "canary-4711"
FEW = {"min_examples": 9}
"""Rows that the owner wants behind a reply, of which eight batches of one row are fewer."""
AT_AND_BEYOND = {
    "base": lambda server: (server.node.model.fingerprint, CANARY),
    "targets": lambda server: (list(server.node.model.shapes), list(server.node.model.shapes)[1:]),
    "max_rank": lambda server: (2, 1),
    "max_steps": lambda server: (3, 2),
    "min_lr": lambda server: (1e-2, nextafter(1e-2, 1)),
    "max_lr": lambda server: (1e-2, nextafter(1e-2, 0)),
    "min_cohort": lambda server: (3, 4),
    "min_examples": lambda server: (11, 12),  # of 22 rows in even batches of at most 4
    "max_bytes": lambda server: (needed_bytes(server.assignment), needed_bytes(server.assignment) - 1),
}


@pytest.fixture
def trained(monkeypatch):
    """Return the names for which the engine was called."""
    names, train = [], client.app.train

    def counted(base, lora, assignments, asked, *rest):
        names.extend(asked)
        return train(base, lora, assignments, asked, *rest)

    monkeypatch.setattr(client.app, "train", counted)
    return names


def limited(folder, **policy):
    return Server(write_node(folder, policy=policy))


@pytest.mark.parametrize("key", AT_AND_BEYOND)
def test_one_beyond_a_limit_is_refused_before_any_step(key, server, tmp_path, trained):
    at, beyond = AT_AND_BEYOND[key](server)
    with gradients() as steps:
        assert reason_of(limited(tmp_path / "beyond", **{key: beyond}).train()) == "policy"
    assert (steps, trained) == ([], [])
    with gradients() as steps:
        values_of(limited(tmp_path / "at", **{key: at}).train())
    assert (len(steps), trained) == (3, ["clinic"])


def test_a_term_that_the_owner_does_not_allow_is_refused_before_any_step_and_named(tmp_path, trained, caplog):
    server = limited(tmp_path / "none", terms=[])
    server.assignment = replace(server.assignment, terms=(Term("proximal", {"mu": 0.1}),))
    with gradients() as steps, caplog.at_level(logging.ERROR, "client.app"):
        assert reason_of(server.train()) == "policy"
    assert (steps, trained) == ([], [])
    assert "[policy] terms = [], requested is 'proximal'" in caplog.text
    allowed = limited(tmp_path / "one", terms=["proximal"])
    allowed.assignment = server.assignment
    values_of(allowed.train())  # control


@pytest.mark.parametrize("policy", [{}, {"terms": ["control-variate"], "gradients": True}])
def test_a_gradient_is_refused_unless_the_owner_allows_it(policy, tmp_path, trained):
    server, allowed = limited(tmp_path / "a", **policy), limited(tmp_path / "b", gradients=True)
    for each in (server, allowed):
        each.assignment = replace(each.assignment, trains="b", returns="gradient")
    assert reason_of(server.train()) == "policy"
    assert trained == []
    values_of(allowed.train())  # control


@pytest.mark.parametrize("kind", ["gradient", "compressed-gradient"])
def test_a_node_that_sends_no_gradients_says_so_as_it_is_first_asked(kind, tmp_path, caplog):
    asked = {"targets": "query-value", "gradients": kind}
    server = limited(tmp_path / "a")  # control: it announces itself where none are asked for
    with caplog.at_level(logging.ERROR, "client.app"):
        assert reason_of(ask(server.file, "query", asked)) == "policy"
    assert f"{server.file}: [policy] gradients = false, requested is a gradient" in caplog.text
    assert "change the limit there" in caplog.text
    assert "Traceback" not in caplog.text
    values_of(ask(limited(tmp_path / "b", gradients=True).file, "query", asked))  # control


def asked_for_sums(server):
    sent = encode_adapter(server.assignment.frozen)
    order = replace(server.order, parent=sha256(sent).hexdigest())
    return ask(server.file, "evaluate", asdict(order) | {ASKS: CLASS_SUMS, "gram": True}, parts={"frozen": sent})


def test_class_sums_are_refused_unless_the_owner_allows_them(tmp_path):
    server, allowed = limited(tmp_path / "a"), limited(tmp_path / "b", class_sums=True, min_class_rows=3)
    assert reason_of(asked_for_sums(server)) == "policy"
    values = values_of(asked_for_sums(allowed))  # control
    assert values["rows"] + values["left_out"] == 22


@pytest.mark.parametrize(("steps", "policy", "word"), [(8, {}, None), (1, {}, True), (9, {}, True), (8, FEW, "policy")])
def test_energies_are_of_as_many_batches_as_a_plan_needs(steps, policy, word, tmp_path):
    server, training = limited(tmp_path, **policy), replace(PLAIN, learning_rates=(1e-2,) * steps, batch=1)
    sent = encode_adapter(server.assignment.frozen)
    values = asdict(replace(server.order, parent=sha256(sent).hexdigest())) | {ASKS: MODULE_ENERGIES}
    with gradients() as made:
        reply = ask(server.file, "evaluate", training.to_values() | values, parts={"frozen": sent})
    assert bool(made) == (word is None)
    if word is None:
        assert len(values_of(reply)["energies"]) == len(server.assignment.start.keys() - {"classifier"})
    else:
        assert reply.has_error()
        assert word is True or reason_of(reply) == word


def test_a_node_that_sends_no_class_sums_says_so_as_it_is_first_asked(tmp_path, caplog):
    asked = {"targets": "query-value", "class_sums": True}
    server = limited(tmp_path / "a")
    with caplog.at_level(logging.ERROR, "client.app"):
        assert reason_of(ask(server.file, "query", asked)) == "policy"
    assert f"{server.file}: [policy] class_sums = false, requested are sums of features by class" in caplog.text
    values_of(ask(limited(tmp_path / "b", class_sums=True).file, "query", asked))  # control


@pytest.mark.parametrize("spoilt", [{"asks": "rows"}, {"temperatures": [0.0]}, {"temperatures": "hot"}, {"heads": 3}])
def test_a_request_about_heads_of_another_form_is_refused(spoilt, tmp_path):
    server = limited(tmp_path, class_sums=True)
    last, sent = server.node.model.head[-1].name, encode_adapter(server.assignment.frozen)
    d, k = server.node.model.shapes[last]
    order = asdict(replace(server.order, parent=sha256(sent).hexdigest()))

    def reply(values, width=k):
        parts = {"frozen": sent, HEADS: pack_heads([np.ones((d, width))])}
        asked = order | {ASKS: HEAD_LOSSES, "temperatures": [1.0]} | values
        return ask(server.file, "evaluate", asked, parts=parts)

    assert len(values_of(reply({}))["losses"]) == 1  # control
    width = spoilt.pop("heads", k)
    assert reply(spoilt, width).has_error()


def test_a_training_on_fewer_different_rows_than_the_owner_allows_is_refused(tmp_path, trained):
    """The node has 24 rows and trains on 22 of them; a request for many reads none of them twice before all."""
    at, beyond = (limited(tmp_path / str(limit), min_examples=limit) for limit in (22, 23))
    many = replace(PLAIN, learning_rates=(1e-2,) * 30)
    values = assignment_values(at.assignment, many) | {"cohort": 3} | asdict(at.order)
    for server, reason in ((at, None), (beyond, "policy")):
        reply = ask(server.file, "train", values, pack_assignment(server.assignment), server.parts)
        assert (reason_of(reply) if reason else values_of(reply)["examples"] > 22) == (reason or True)
    assert trained == ["clinic"]


def test_a_round_of_more_phases_than_the_owner_allows_is_refused_at_its_first(tmp_path, trained):
    server = limited(tmp_path, max_phases=1)
    values = server.values() | {"phases": 2}
    assert reason_of(ask(server.file, "train", values, pack_assignment(server.assignment), server.parts)) == "policy"
    assert trained == []
    values_of(server.train())  # control: a round of one


def test_a_node_trains_no_more_rounds_than_it_allows(tmp_path, trained):
    server = limited(tmp_path, max_rounds=2)
    assert reason_of(server.train(round_id=replace(server.order, round=3))) == "policy"
    for number in (1, 2):
        values_of(server.train(round_id=replace(server.order, round=number)))
    assert reason_of(server.train(round_id=replace(server.order, round=1))) == "policy"  # in disguise
    assert trained == ["clinic"] * 2


def test_what_was_refused_does_not_count_as_a_round(tmp_path, trained):
    server = limited(tmp_path, max_rounds=1)
    assert reason_of(server.train(round_id=replace(server.order, base="0" * 64))) == "base"
    values_of(server.train())
    assert trained == ["clinic"]


def test_a_node_rests_between_trainings(tmp_path, trained):
    hurried, patient = limited(tmp_path / "one", min_seconds=3600.0), limited(tmp_path / "two", min_seconds=1e-9)
    values_of(hurried.train())
    assert reason_of(hurried.train(round_id=replace(hurried.order, round=2))) == "policy"
    for _ in range(2):
        values_of(patient.train())
    assert trained == ["clinic"] * 3


def test_a_server_that_does_not_say_how_many_it_asks_is_refused(tmp_path):
    server = limited(tmp_path, min_cohort=1)
    values = {key: value for key, value in server.values().items() if key != "cohort"}
    assert reason_of(ask(server.file, "train", values, pack_assignment(server.assignment))) == "policy"
    values_of(server.train())  # control


def test_no_base_is_loaded_for_what_is_refused(server, tmp_path):
    def reply(name, **policy):
        file = write_node(tmp_path / name, base=f"/{CANARY}/base", policy=policy)
        return ask(file, "train", server.values(), pack_assignment(server.assignment))

    assert reason_of(reply("refused", max_rank=1)) == "policy"
    assert reason_of(reply("allowed", max_rank=2)) == "model"  # control: this base cannot be loaded


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("how", ["other factors", "another parent", "by hash"])
def test_frozen_factors_that_are_not_those_of_the_round_are_refused_before_any_step(kind, how, server, trained, caplog):
    other = random_adapter(server.node.model.shapes, (3,), 7)
    values, blob = server.order.to_values() | {"codec": "by-hash"}, b""
    if kind == "train":
        values, blob = server.values() | values, pack_assignment(server.assignment)
    values_of(ask(server.file, kind, values, blob, server.parts))  # control
    if how == "by hash":  # of factors that the node holds from before
        held = values | {"parent": adapter_hash(other)}
        values_of(ask(server.file, kind, held, blob, {"frozen": encode_adapter(other)}))
    forged = {
        "other factors": {"frozen": encode_adapter(other)},
        "another parent": server.parts,
        "by hash": {"frozen": b"#" + adapter_hash(other).encode()},
    }[how]
    values |= {"parent": "parent"} if how == "another parent" else {}
    trained.clear()
    with gradients() as steps:
        assert reason_of(ask(server.file, kind, values, blob, forged)) == "policy"
    assert (steps, trained) == ([], [])
    assert "the frozen factors have SHA-256" in caplog.text


def test_the_reason_stays_in_the_nodes_own_log(tmp_path, caplog):
    server = limited(tmp_path, base=CANARY)
    with caplog.at_level(logging.ERROR, "client.app"):
        reply = server.train()
    assert reason_of(reply) == "policy"
    for secret in (CANARY, str(tmp_path), "[policy]"):
        assert secret not in repr(reply) + str(reply.error)
        assert secret in caplog.text  # control
    assert "Traceback" not in caplog.text


def test_measuring_is_not_training(tmp_path):
    values_of(limited(tmp_path, max_rounds=1, max_steps=1, max_rank=1).evaluate())


@pytest.mark.parametrize("key", ["base", "targets", "max_bytes"])
def test_measuring_has_the_limits_of_base_targets_and_memory(key, server, tmp_path):
    size = 4 * sum(array.size for array in server.assignment.frozen.arrays().values())
    at, beyond = (size, size - 1) if key == "max_bytes" else AT_AND_BEYOND[key](server)
    assert reason_of(limited(tmp_path / "beyond", **{key: beyond}).evaluate()) == "policy"
    values_of(limited(tmp_path / "at", **{key: at}).evaluate())
