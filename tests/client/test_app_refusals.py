import logging
from dataclasses import asdict, replace
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest

import client.app
from client.node import attach_lora, load_node
from client.training.evaluate import Score
from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.protocol.assignment import Term, Update
from common.protocol.messages import assignment_values, pack_assignment
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import ask, reason_of, values_of
from tests.helpers.client.training import PLAIN, gradients

CANARY = "canary-4711"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_an_order_for_another_base_is_refused_before_any_step(server, kind):
    other = replace(server.order, base="0" * 64)
    passes = _count_passes(server)
    with gradients() as steps:
        assert reason_of(getattr(server, kind)(round_id=other)) == "base"
    assert (steps, passes) == ([], [])
    with gradients() as steps:
        values_of(getattr(server, kind)())  # control: the same order for this base
    assert (len(steps) > 0, len(passes) > 0) == (kind == "train", True)


def _count_passes(server):
    skeleton, _ = attach_lora(load_node(server.file).base, tuple(server.node.model.shapes))
    passes = []
    skeleton.model.bert.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_an_order_for_other_targets_is_refused(server):
    start = server.assignment.start
    server.assignment = replace(server.assignment, start=Adapter({n: f for n, f in start.items() if n != "classifier"}))
    assert reason_of(server.train()) == "base"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("spoil", [lambda blob: b"", lambda blob: b"x" * 100, lambda blob: blob[:-1]])
def test_a_malformed_buffer_is_refused_before_any_step(server, kind, spoil):
    whole = pack_assignment(server.assignment) if kind == "train" else encode_adapter(server.assignment.frozen)
    with gradients() as steps:
        assert reason_of(getattr(server, kind)(blob=spoil(whole))) == "codec"
    assert not steps


def test_a_flipped_byte_is_refused(server):
    blob = bytearray(pack_assignment(server.assignment))
    for place in np.linspace(0, len(blob) - 1, 20).astype(int):
        blob[place] ^= 4
        assert reason_of(server.train(bytes(blob))) == "codec"
        blob[place] ^= 4
    values_of(server.train(bytes(blob)))  # control


@pytest.mark.parametrize("missing", ["base", "attempt", "trains", "learning_rates", "batch"])
def test_a_message_without_a_value_is_refused(server, missing):
    values = asdict(server.order) | assignment_values(server.assignment, PLAIN)
    del values[missing]
    assert reason_of(ask(server.file, "train", values, pack_assignment(server.assignment))) == "failed"


def _bad_data_path(folder):
    return write_node(folder, data=f"{CANARY}.jsonl")


def _bad_row(folder):
    file = write_node(folder)
    (folder / "rows.jsonl").write_text(f'{{"text": "a cow", "label": "{CANARY}"}}\n' * 2)
    return file


def _bad_base(folder):
    return write_node(folder, base=f"/{CANARY}/base")


def _base_name_too_long(folder):
    """Make Python raise its own OSError, not one of our errors."""
    return write_node(folder, base=f"/{CANARY * 30}")


def _bad_setting(folder):
    return write_node(folder, dtype=CANARY)


def _no_file(folder):
    return folder / f"{CANARY}.toml"


WORDS = {
    **{_bad_data_path: "rows", _bad_row: "rows", _bad_base: "model", _base_name_too_long: "failed"},
    **{_bad_setting: "settings", _no_file: "settings"},
}
"""The word for each: which of its rows, base and settings are at fault, and nothing else, leaves the node."""


@pytest.mark.parametrize("spoil", [_bad_data_path, _bad_row, _bad_base, _base_name_too_long, _bad_setting, _no_file])
@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_what_went_wrong_stays_in_the_nodes_own_log(tmp_path, caplog, server, spoil, kind):
    values = {"targets": "query-value"} | server.values()
    with caplog.at_level(logging.ERROR, "client.app"):
        reply = ask(spoil(tmp_path / "spoilt"), kind, values, pack_assignment(server.assignment), server.parts)
    assert reason_of(reply) == WORDS[spoil]
    assert CANARY not in repr(reply)
    assert CANARY not in str(reply.error)
    assert str(tmp_path) not in repr(reply)
    assert CANARY in caplog.text  # control: the text was there to be sent


@pytest.mark.parametrize(
    ("kind", "planted"),
    [
        ("train", lambda *args: [Update(Adapter(), 1, 1, CANARY)]),
        ("evaluate", lambda *args: Score(CANARY, {}, 1)),
        ("describe_node", lambda *args: planted_announcement()),
    ],
)
def test_a_value_that_must_not_leave_is_never_sent(server, monkeypatch, caplog, kind, planted):
    def reply():
        return (
            ask(server.file, "query", {"targets": "query-value"})
            if kind == "describe_node"
            else getattr(server, kind)()
        )

    values_of(reply())  # control
    monkeypatch.setattr(client.app, kind, planted)
    refused = reply()
    assert reason_of(refused) == "failed"
    assert CANARY not in repr(refused) + str(refused.error)
    assert "must not leave" in caplog.text


def planted_announcement():
    model = SimpleNamespace(fingerprint="f")
    return SimpleNamespace(model=model, to_values=lambda: {"name": "clinic", "rows_seen": [CANARY]})


def test_factors_that_the_node_does_not_hold_are_missing(server):
    """And those that it holds need not be sent again."""
    named = {"frozen": b"#" + sha256(server.parts["frozen"]).hexdigest().encode()}
    values = server.order.to_values() | {"codec": "by-hash"}
    assert reason_of(ask(server.file, "evaluate", values, parts={"frozen": b"#" + b"0" * 64})) == "missing"
    whole = values_of(ask(server.file, "evaluate", values, parts=server.parts))
    assert values_of(ask(server.file, "evaluate", values, parts=named)) == whole


def test_a_term_that_this_release_does_not_have_is_named_in_the_log(server, caplog):
    unknown = replace(server.assignment, terms=(Term("momentum"),))
    values = server.values() | assignment_values(unknown, PLAIN)
    with caplog.at_level(logging.ERROR, "client.app"), gradients() as steps:
        reply = ask(server.file, "train", values, pack_assignment(unknown), server.parts)
    assert (reason_of(reply), steps) == ("policy", [])
    assert "'momentum'" in caplog.text
