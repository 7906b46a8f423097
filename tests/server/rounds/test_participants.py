"""Participants of a run, over a messenger in memory; nodes come, go, and send nonsense."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest

from common.protocol.payload import Payload
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants, RunModel, mismatch
from tests.helpers.server.exchange import MemoryExchange, NumpyNode, described

ADA, BOB, CYD = NumpyNode("ada", 4, rows=11), NumpyNode("bob", 2), NumpyNode("cyd", 8)


def joined(messenger, participants=None, model=None):
    participants = participants or Participants(messenger, model or RunModel(described(), 4), "query-value")
    participants.refresh(again=True)
    return participants


def refused(participants):
    return {(record.name, record.reason) for record in participants.rejected_metrics()}


def asked(messenger):
    """Return the nodes that were asked to announce themselves, one list for each time."""
    return [names for kind, _, names in messenger.asked if kind == "query" and names]


def test_those_of_the_runs_model_take_part():
    participants = joined(MemoryExchange([ADA, BOB]))
    assert participants.nodes == {"ada": ADA.announcement(), "bob": BOB.announcement()}
    assert participants.ids == {"ada": 100, "bob": 101}
    assert participants.rejected_metrics() == []
    assert participants.states() == {"ada": "ready", "bob": "ready"}


class Told(RunObserver):
    def __init__(self):
        self.ready, self.looks = [], 0

    def on_node_ready(self, number, name, unfinished):
        self.ready.append((number, name, unfinished))

    def on_look(self):
        self.looks += 1


def test_each_connection_of_a_ready_node_is_told_with_the_runs_that_it_lacks():
    told, node = Told(), replace(ADA, unfinished=("a" * 64,))
    messenger = MemoryExchange([node, CYD, replace(BOB, base="other")])
    participants = joined(messenger, Participants(messenger, RunModel(described(), 4), "query-value", observer=told))
    participants.refresh()
    assert told.ready == [(100, "ada", ("a" * 64,)), (101, "cyd", ())]
    assert told.looks == 2
    assert participants.nodes["ada"].unfinished == ()


def test_the_question_reaches_each_node_once():
    messenger = MemoryExchange([ADA, BOB])
    payloads = []
    messenger.tamper = lambda name, kind, number, reply: payloads.append((name, kind, number)) or reply
    participants = joined(messenger)
    joined(messenger, participants)
    assert payloads == [("ada", "query", 0), ("bob", "query", 0)]


def test_nodes_of_another_base_are_turned_away_whoever_comes_first():
    participants = joined(MemoryExchange([NumpyNode("aaa", 99, base="!"), NumpyNode("aab", 99, base="!"), BOB]))
    assert list(participants.nodes) == ["bob"]
    assert refused(participants) == {("aaa", "base"), ("aab", "base")}
    assert participants.states() == {"aaa": "refused: base", "aab": "refused: base", "bob": "ready"}
    assert participants.other_bases() == []
    assert joined(MemoryExchange([NumpyNode("dan", 1, base="old")])).other_bases() == ["dan"]


def test_a_node_with_the_base_and_false_shapes_is_turned_away():
    liar = NumpyNode("aaa", 99, shapes={"query": (8, 8)})
    participants = joined(MemoryExchange([liar, ADA, BOB]))
    assert refused(participants) == {("aaa", "shape")}
    assert list(participants.nodes) == ["ada", "bob"]


def test_a_refusal_is_a_record():
    other = RunModel(described("other"), 4)
    (record,) = joined(MemoryExchange([ADA]), model=other).rejected_metrics()
    expected = {"name": "ada", "rank": 4, "rows": 11, "status": "refused", "reason": "base", "share": 0.0}
    assert expected.items() <= asdict(record).items()


def test_a_node_above_the_largest_rank_trains_at_that_one():
    messenger = MemoryExchange([ADA])
    participants = joined(messenger)
    messenger.connected |= {200: BOB, 201: CYD}
    joined(messenger, participants)
    assert {name: node.rank for name, node in participants.nodes.items()} == {"ada": 4, "bob": 2, "cyd": 4}
    assert participants.states()["cyd"] == "ready, at rank 4 of its 8"
    assert asked(messenger) == [["ada"], ["bob", "cyd"]]


def test_nothing_that_a_node_sends_is_kept_but_its_name_and_two_numbers():
    participants = joined(MemoryExchange([ADA]))
    assert participants.nodes["ada"].model is participants.model.description


def test_a_node_that_is_gone_is_forgotten_and_may_come_back():
    messenger = MemoryExchange([ADA, BOB, NumpyNode("dan", 9, base="old")])
    participants = joined(messenger)
    left = {node: messenger.connected.pop(node) for node in (101, 102)}
    joined(messenger, participants)
    assert (list(participants.nodes), participants.ids, refused(participants)) == (["ada"], {"ada": 100}, set())
    messenger.connected |= {node + 100: who for node, who in left.items()}
    joined(messenger, participants)
    assert participants.ids == {"ada": 100, "bob": 201}
    assert refused(participants) == {("dan", "base")}


def test_the_same_name_twice_is_refused_until_it_is_free():
    messenger = MemoryExchange([ADA, BOB])
    participants = joined(messenger)
    messenger.connected[200] = NumpyNode("ada", 2)  # the same client, started anew
    joined(messenger, participants)
    assert participants.ids == {"ada": 100, "bob": 101}
    assert refused(participants) == {("ada", "name")}
    del messenger.connected[100]
    joined(messenger, participants)
    assert participants.ids == {"ada": 200, "bob": 101}
    assert refused(participants) == set()


def test_of_two_newcomers_of_one_name_the_lower_number_wins():
    messenger = MemoryExchange([ADA, NumpyNode("ada", 2)])
    messenger.arrange = lambda asked: asked[::-1]
    assert joined(messenger).nodes == {"ada": ADA.announcement()}


def test_whoever_was_turned_away_for_good_is_not_asked_again():
    messenger = MemoryExchange([ADA, NumpyNode("dan", 1, base="old"), BOB])
    participants = joined(messenger)
    joined(messenger, participants)
    assert asked(messenger) == [["ada", "dan", "bob"]]
    assert refused(participants) == {("dan", "base")}


class Owned(NumpyNode):
    """A node whose owner lets no gradient leave."""

    def answer(self, kind, payload):
        return "policy" if "gradients" in payload.values else super().answer(kind, payload)


@pytest.mark.parametrize("kind", ["gradient", "compressed-gradient", None])
def test_a_node_that_sends_no_gradients_is_refused_by_name_before_the_first_round(kind):
    messenger = MemoryExchange([ADA, Owned("own", 4)])
    participants = joined(messenger, Participants(messenger, RunModel(described(), 4), "query-value", gradients=kind))
    assert participants.states() == {"ada": "ready", "own": "refused: policy" if kind else "ready"}
    assert refused(participants) == ({("own", "policy")} if kind else set())
    joined(messenger, participants)
    assert asked(messenger) == [["ada", "own"]]  # its owner's file is read once


def nonsense(**changes):
    def change(values: Mapping[str, object]):
        return {key: value for key, value in (dict(values) | changes).items() if value is not None}

    return change


@pytest.mark.parametrize(
    "change",
    [
        nonsense(name=None),
        nonsense(rank=None),
        nonsense(rank=0),
        nonsense(rank=2.0),
        nonsense(rank=True),
        nonsense(rows="many"),
        nonsense(rows=float("inf")),
        nonsense(rows=float("nan")),
        nonsense(modules=[], d=[], k=[]),
        nonsense(d=[1]),
        nonsense(d=[0, 8, 6]),
        nonsense(k=8),
        nonsense(head=["head"]),
        nonsense(embeddings=3),
    ],
)
def test_one_that_says_nonsense_is_left_out_and_asked_again(change):
    messenger = MemoryExchange([ADA, BOB])
    messenger.tamper = lambda name, kind, number, reply: Payload(change(reply.values)) if name == "bob" else reply
    participants = joined(messenger)
    assert list(participants.nodes) == ["ada"]
    messenger.tamper = lambda name, kind, number, reply: reply
    assert list(joined(messenger, participants).nodes) == ["ada", "bob"]
    assert asked(messenger) == [["ada", "bob"], ["bob"]]


@pytest.mark.parametrize("word", ["absent", "failed", "malformed"])
def test_one_that_does_not_answer_is_asked_again(word):
    messenger = MemoryExchange([ADA, BOB])
    messenger.tamper = lambda name, kind, number, reply: word if name == "bob" else reply
    participants = joined(messenger)
    assert list(participants.nodes) == ["ada"]
    messenger.tamper = lambda name, kind, number, reply: reply
    assert list(joined(messenger, participants).nodes) == ["ada", "bob"]


def test_a_node_that_has_not_answered_loads():
    class Slow(MemoryExchange):
        def announcements(self, question, known):
            return []

    participants = joined(Slow([ADA]))
    assert (participants.nodes, participants.states()) == ({}, {"ada": "loading"})


@pytest.mark.parametrize(
    ("labels", "state"),
    [("[2]", "refused: base: labels: the run has [1], the node [2]"), ("\x1b[2J", "refused: malformed")],
)
def test_found_A6_what_differs_is_in_a_refused_nodes_state(labels, state):
    messenger = MemoryExchange([NumpyNode("odd", 4, base="!"), ADA])
    parts = {"parts": ["labels"], "part_values": [labels]}
    messenger.tamper = lambda name, kind, number, reply: (
        replace(reply, values={**reply.values, **parts}) if name == "odd" else reply
    )
    participants = joined(messenger, model=RunModel(replace(described(), parts={"labels": "[1]"}), 4))
    assert participants.states() == {"ada": "ready", "odd": state}


def test_found_A6_a_node_that_announced_another_base_and_left_is_refused_and_one_of_the_base_is_not():
    messenger = MemoryExchange([NumpyNode("odd", 4, base="!"), ADA])
    answers = messenger.announcements(Payload({}), ())
    messenger.announcements = lambda question, known: answers
    messenger.nodes = list
    names = messenger.connected
    messenger.name = lambda node: names[node].name
    participants = joined(messenger)
    assert participants.states() == {"odd": "refused: base"}
    assert participants.nodes == {}


KNOWN = ADA.announcement()
MODEL = KNOWN.model


def test_who_takes_part():
    assert mismatch(KNOWN, {}, MODEL) is None
    assert mismatch(KNOWN, {"bob": KNOWN}, MODEL) is None
    assert mismatch(KNOWN, {"ada": KNOWN}, MODEL) == "name"
    assert mismatch(KNOWN, {}, replace(MODEL, fingerprint="other")) == "base"


@pytest.mark.parametrize("change", [{"shapes": {"q": (1, 1)}}, {"embeddings": ("query",)}, {"task": "classification"}])
def test_one_fingerprint_with_another_model_is_refused(change):
    model = replace(MODEL, task="causal-lm")
    assert mismatch(replace(KNOWN, model=replace(model, **change)), {}, model) == "shape"
    assert mismatch(replace(KNOWN, model=model, rank=1, rows=7), {}, model) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../ada", "a\0b", "-a", "ada\n", "a b", "ä", "a" * 65])
def test_a_name_that_cannot_name_a_file_is_refused(name):
    assert mismatch(replace(KNOWN, name=name), {}, MODEL) == "name"


@pytest.mark.parametrize("name", ["a", "Ada-2_b.c", "9", "a" * 64])
def test_other_names_are_not(name):
    assert mismatch(replace(KNOWN, name=name), {}, MODEL) is None
