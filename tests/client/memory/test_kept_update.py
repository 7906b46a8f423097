"""The global update that a node keeps: announced after a restart, the start of a change, dropped if of no use."""

import logging
import os
from dataclasses import replace
from hashlib import sha256

import pytest

from client.memory import held_buffers
from client.memory.kept_update import KeptUpdate
from common.adapters.codec import encode_adapter
from common.adapters.joined import stack_adapters
from common.adapters.link_codecs import Held, codec_named
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, reason_of, values_of
from tests.helpers.common.models import random_adapter

CODEC = "by-change"


@pytest.fixture
def server(tmp_path):
    return Server(write_node(tmp_path))


@pytest.fixture(autouse=True)
def _another_process():
    restart()
    yield
    restart()


def restart():
    held_buffers._held.clear()


def kept_file(server):
    return server.file.with_suffix(".state") / "global-update"


def announce(server, run="run 1", **config):
    return values_of(ask(server.file, "query", {"targets": "query-value", "run": run}, **{"keep": True} | config))


def grown(server):
    """Return the round after, its update, and the change that leads there from what the node was sent last."""
    before = encode_adapter(server.assignment.frozen)
    added = random_adapter(server.node.model.shapes, (1,), 9)
    after = encode_adapter(stack_adapters(server.assignment.frozen, added))
    digest = sha256(after).hexdigest()
    held = [Held.of(before, sha256(before).hexdigest())]
    order = replace(server.order, round=2, parent=digest)
    return order, after, codec_named(CODEC).encode(after, digest, held, "float32")


def test_after_a_restart_it_is_announced_and_a_change_is_enough(server, tmp_path):
    server.train(keep=True)
    restart()
    values = announce(server)
    assert values["held"] == server.order.parent
    assert values["held_ranks"] == [factors.rank for factors in server.assignment.frozen.values()]
    order, after, change = grown(server)
    assert len(change) < len(after) / 2
    reply = server.train(round_id=order, parts={"frozen": change}, codec=CODEC, keep=True)
    other = Server(write_node(tmp_path / "other"))
    restart()
    whole = other.train(round_id=order, parts={"frozen": after}, codec=CODEC)
    assert values_of(reply)["loss"] == values_of(whole)["loss"]
    assert kept_file(server).read_bytes().endswith(after)
    restart()
    assert announce(server)["held"] == order.parent


def test_only_its_owner_may_read_it(server):
    server.train(keep=True)
    assert kept_file(server).stat().st_mode & 0o777 == 0o600
    assert kept_file(server).parent.stat().st_mode & 0o777 == 0o700


def test_a_node_of_a_simulation_keeps_nothing(server):
    server.train()
    assert not kept_file(server).exists()
    assert "held" not in announce(server)


def test_without_it_a_change_is_missing_and_the_whole_is_trained_on(server):
    order, after, change = grown(server)
    assert reason_of(server.train(round_id=order, parts={"frozen": change}, codec=CODEC, keep=True)) == "missing"
    assert not kept_file(server).exists()
    assert "loss" in values_of(server.train(round_id=order, parts={"frozen": after}, codec=CODEC, keep=True))


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[:-5])


def empty(file):
    file.write_bytes(b"")


def replace_by_a_link(file):
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


@pytest.mark.parametrize("damage", [flip, cut, empty, replace_by_a_link])
def test_a_damaged_one_is_dropped_with_a_line(server, damage, caplog):
    server.train(keep=True)
    restart()
    damage(kept_file(server))
    assert "held" not in announce(server)
    (record,) = [each for each in caplog.records if getattr(each, "event", None) == "update-dropped"]
    assert record.levelno == logging.WARNING
    assert "the server sends the whole global update again" in record.getMessage()
    assert not os.path.lexists(kept_file(server))
    order, _, change = grown(server)
    assert reason_of(server.train(round_id=order, parts={"frozen": change}, codec=CODEC, keep=True)) == "missing"


def test_one_of_another_run_is_dropped_with_a_line(server, caplog):
    server.train(keep=True)
    restart()
    assert "held" not in announce(server, run="run 2")
    assert "it belongs to run 'run 1'" in caplog.text
    assert not kept_file(server).exists()


def test_one_of_another_base_is_dropped_with_a_line(server, caplog):
    KeptUpdate(server.file, "run 1", "another base").keep(encode_adapter(server.assignment.frozen))
    assert "held" not in announce(server)
    assert "it belongs to base 'another base'" in caplog.text


def test_an_update_that_the_round_does_not_start_from_is_never_trained_on(server):
    """What is kept is a start for a change, whose result has the hash that the round states, or is not used."""
    server.train(keep=True)
    restart()
    announce(server)
    other = replace(server.order, round=2, parent="0" * 64)
    named = b"#" + server.order.parent.encode()
    assert reason_of(server.train(round_id=other, parts={"frozen": named}, codec=CODEC, keep=True)) == "policy"


def test_a_folder_that_cannot_be_written_costs_a_line_and_no_round(server, caplog):
    kept_file(server).parent.write_text("a file in place of the folder")
    assert "loss" in values_of(server.train(keep=True))
    assert "cannot be written" in caplog.text


def test_an_older_servers_question_names_no_run(server):
    server.train(keep=True)
    assert "held" not in values_of(ask(server.file, "query", {"targets": "query-value"}, keep=True))
    assert kept_file(server).exists()
