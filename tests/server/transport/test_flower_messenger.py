"""Payloads over a Flower grid: one array a message, words for errors, and nobody waits for ever."""

import time
from typing import get_args

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from common.protocol.messages import ADAPTER_STYPE, RejectionReason
from common.protocol.payload import Payload, read_reply
from server.transport.flower_messenger import FlowerMessenger
from tests.helpers.server.grid import MemoryGrid, answering, reply
from tests.helpers.server.runs import FOUR, clients, fresh, hashes, plan, run

CANARY = "/home/ada/patients.csv line 7: John Smith"
ASKED = Payload({"round": 3, "scaling": 0.5, "trains": "both", "learning_rates": [0.1, 0.2], "clip": True}, b"factors")
ECHO = Payload({"loss": 0.25, "examples": 3}, b"trained")


def echo(message):
    return [reply(message, ECHO)]


def failing(text):
    return lambda message: [Message(Error(2, text), reply_to=message)]


def silent(message):
    return []


def ask(grid, nodes=(4, 5), deadline=5.0, payload=ASKED):
    return dict(FlowerMessenger(grid, deadline).request("train", dict.fromkeys(nodes, payload), 3))


def test_a_letter_arrives_as_one_array_of_our_type():
    grid = MemoryGrid({4: echo})
    ask(grid, [4], deadline=60.0)
    (message,) = grid.pushed
    meta = message.metadata
    assert (meta.dst_node_id, meta.message_type, meta.group_id, meta.ttl) == (4, "train", "3", 60.0)
    assert dict(message.content.config_records) == {"values": ConfigRecord(dict(ASKED.values))}
    ((name, record),) = message.content.array_records.items()
    ((key, array),) = record.items()
    assert (name, key) == ("adapter", "adapter")
    assert (array.dtype, array.shape, array.stype, array.data) == ("uint8", (7,), ADAPTER_STYPE, b"factors")


def test_a_letter_without_factors_has_no_array():
    grid = MemoryGrid({4: echo})
    ask(grid, [4], payload=Payload({"targets": ["q", "v"]}))
    assert not grid.pushed[0].content.array_records
    assert read_reply(grid.pushed[0]) == Payload({"targets": ["q", "v"]})


def test_replies_come_back_as_letters():
    assert ask(MemoryGrid({4: echo, 5: lambda message: [reply(message, Payload({"loss": 1.0}))]})) == {
        4: ECHO,
        5: Payload({"loss": 1.0}),
    }


def test_nodes_are_flowers_numbers():
    assert list(FlowerMessenger(MemoryGrid({7: echo, 4: echo}), 1.0).nodes()) == [7, 4]


def test_nobody_asked_is_nobody_waited_for():
    assert ask(MemoryGrid({4: echo}), []) == {}


@pytest.mark.parametrize("word", get_args(RejectionReason))
def test_an_error_of_our_own_words_is_taken_over(word):
    assert ask(MemoryGrid({4: failing(word), 5: echo})) == {4: word, 5: ECHO}


@pytest.mark.parametrize("text", [CANARY, "", "nan ", "Failed"])
def test_the_text_of_any_other_error_is_not(text):
    assert ask(MemoryGrid({4: failing(text), 5: echo})) == {4: "failed", 5: ECHO}


def test_an_errors_text_is_written_nowhere(tmp_path):
    def fails_to_train(message):
        return failing(CANARY)(message) if message.metadata.message_type == "train" else answering(FOUR[3])(message)

    grid = MemoryGrid({number: answering(node) for number, node in enumerate(FOUR)} | {3: fails_to_train})
    entries = run(tmp_path, FlowerMessenger(grid, 5.0), plan(2))
    assert (clients(entries[1])["eve"]["status"], clients(entries[1])["eve"]["reason"]) == ("refused", "failed")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"failed" in written
    assert CANARY.encode() not in written


def test_a_run_over_flower_ends_with_the_same_bits(tmp_path):
    """As over the exchange in memory, whatever numbers Flower gives the nodes."""
    grid = MemoryGrid({2**63 - number: answering(node) for number, node in enumerate(FOUR)})
    over_flower = run(tmp_path / "one", FlowerMessenger(grid, 5.0), plan(3))
    assert hashes(over_flower) == hashes(run(tmp_path / "two", fresh(), plan(3)))
    assert {message.metadata.message_type for message in grid.pushed} == {"query", "train", "evaluate"}


def test_whoever_misses_the_deadline_is_absent():
    assert ask(MemoryGrid({4: silent, 5: echo}), deadline=0.05) == {4: "absent", 5: ECHO}


def test_a_late_reply_counts_up_to_the_deadline():
    grid = MemoryGrid({4: silent, 5: echo})
    replies = FlowerMessenger(grid, 5.0).request("train", {4: ASKED, 5: ASKED}, 3)
    assert next(replies) == (5, ECHO)
    grid.strays = echo(grid.pushed[0])
    assert list(replies) == [(4, ECHO)]


def test_nobody_waits_for_what_is_posted():
    grid = MemoryGrid({4: echo, 5: failing("policy"), 6: silent}, gone=[7])
    messenger = FlowerMessenger(grid, 60.0)
    posted = {node: messenger.post("evaluate", ASKED, node, 3) for node in (4, 5, 6, 7)}
    assert posted.pop(7) is None
    ids = {node: message for node, (message, late) in posted.items()}
    assert dict(messenger.answers(ids.values())) == {ids[4]: ECHO, ids[5]: "policy"}
    assert all(58 < late - time.monotonic() <= 60 for _, late in posted.values())
    assert {message.metadata.group_id for message in grid.pushed} == {"3"}


def test_one_that_cannot_be_reached_is_absent():
    grid = MemoryGrid({4: echo, 5: echo, 6: echo}, gone=[4, 6])
    assert ask(grid, [4, 5, 6]) == {4: "absent", 5: ECHO, 6: "absent"}


def test_a_second_reply_and_a_strangers_are_ignored():
    grid = MemoryGrid({4: lambda message: [*echo(message), *failing("nan")(message)], 5: echo})
    ask(grid, [4])  # leaves an answered message behind
    grid.strays = [reply(grid.pushed[0], Payload({"loss": 9.0}))]
    replies = list(FlowerMessenger(grid, 5.0).request("train", {4: ASKED, 5: ASKED}, 4))
    assert replies == [(4, ECHO), (5, ECHO)]


def contents(**records):
    return lambda message: [Message(RecordDict(records), reply_to=message)]


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"other": ConfigRecord({"loss": 0.1})},
        {"values": ConfigRecord({"loss": 0.1}), "adapter": ArrayRecord({"other": Array("uint8", (1,), "x", b"x")})},
        {"adapter": ArrayRecord({"adapter": Array("uint8", (1,), ADAPTER_STYPE, b"x")})},
    ],
)
def test_a_reply_of_another_form_is_malformed(records):
    assert ask(MemoryGrid({4: contents(**records), 5: echo})) == {4: "malformed", 5: ECHO}


def test_packing_is_undone():
    message = Message(ASKED.to_records(), 4, "train")
    assert read_reply(message) == ASKED


class Reports(MemoryGrid):
    """A grid whose nodes have reported at these times, by message in the order of sending."""

    withdrawn = ()

    def last_report(self, message_id):
        return 1.0

    def withdraw(self, message_id):
        self.withdrawn = (*self.withdrawn, message_id)


class GivesUp:
    """Gives up these nodes at once."""

    def __init__(self, *nodes):
        self.nodes, self.missed = nodes, []

    def is_over(self, node, reported):
        return reported == 1.0 and node in self.nodes

    def note_missed(self, node, reported):
        self.missed.append((node, reported))


def asked_with(grid, grace, reports, deadline):
    messenger = FlowerMessenger(grid, deadline, reports=reports)
    return dict(messenger.request("train", dict.fromkeys((4, 5, 6), ASKED), 3, grace))


def test_a_node_that_is_given_up_is_absent_at_once_and_its_message_withdrawn():
    grid, grace = Reports({4: echo, 5: silent, 6: silent}), GivesUp(5)
    assert asked_with(grid, grace, grid, deadline=0.3) == {4: ECHO, 5: "absent", 6: "absent"}
    assert len(grid.withdrawn) == 1
    assert grace.missed == [(6, 1.0)]


def test_without_reports_nobody_is_given_up():
    grid, grace = Reports({4: echo, 5: silent, 6: silent}), GivesUp(5)
    assert asked_with(grid, grace, None, deadline=0.3) == {4: ECHO, 5: "absent", 6: "absent"}
    assert (grid.withdrawn, grace.missed) == ((), [])
