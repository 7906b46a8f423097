"""Who takes part, over an exchange in memory; nodes come, go, and say nonsense."""

from collections.abc import Mapping
from dataclasses import asdict

import pytest

from common.protocol.payload import Payload
from server.rounds.participants import Participants
from tests.helpers.server.exchange import MemoryExchange, NumpyNode

ADA, BOB, CYD = NumpyNode("ada", 4, rows=11), NumpyNode("bob", 2), NumpyNode("cyd", 8)


def joined(exchange, members=None):
    members = members or Participants()
    members.refresh(exchange, {"targets": "query-value"})
    return members


def refused(members):
    return {(record.name, record.reason) for record in members.rejected_metrics()}


def asked(exchange):
    """The nodes that were asked who they are, one list for each time."""
    return [names for kind, _, names in exchange.asked if kind == "query" and names]


def test_the_first_to_come_fix_base_and_largest_rank():
    members = joined(MemoryExchange([ADA, BOB, CYD]))
    assert (members.base, members.max_rank) == ("base", 8)
    assert list(members.nodes) == ["ada", "bob", "cyd"]
    assert members.ids == {"ada": 100, "bob": 101, "cyd": 102}
    assert members.nodes["ada"] == ADA.announcement()
    assert members.rejected_metrics() == []


def test_the_question_reaches_each_node_once():
    exchange = MemoryExchange([ADA, BOB])
    letters = []
    exchange.tamper = lambda name, kind, number, reply: letters.append((name, kind, number)) or reply
    members = joined(exchange)
    joined(exchange, members)
    assert letters == [("ada", "query", 0), ("bob", "query", 0)]


def test_nodes_of_another_base_are_turned_away():
    members = joined(MemoryExchange([NumpyNode("dan", 99, base="old"), ADA, BOB]))
    assert (members.base, members.max_rank) == ("base", 4)
    assert list(members.nodes) == ["ada", "bob"]
    assert refused(members) == {("dan", "base")}
    assert members.other_bases() == ["old"]


def test_a_node_with_the_base_and_false_shapes_fixes_nothing():
    liar = NumpyNode("aaa", 99, shapes={"query": (8, 8)})
    members = joined(MemoryExchange([liar, ADA, BOB]))
    assert refused(members) == {("aaa", "shape")}
    assert (list(members.nodes), members.max_rank) == (["ada", "bob"], 4)
    again = joined(
        MemoryExchange([ADA, liar]), joined(MemoryExchange([ADA]))
    )  # One that comes later fixes nothing either.
    assert refused(again) == {("aaa", "shape")}


def test_a_refusal_is_a_record():
    (record,) = joined(MemoryExchange([ADA]), Participants("other", 4)).refused()
    expected = {"name": "ada", "rank": 4, "rows": 11, "status": "refused", "reason": "base", "share": 0.0}
    assert expected.items() <= asdict(record).items()


def test_a_run_that_goes_on_keeps_its_base_and_rank():
    members = joined(MemoryExchange([ADA, CYD, NumpyNode("dan", 1, base="old")]), Participants("old", 2))
    assert (members.base, members.max_rank) == ("old", 2)
    assert list(members.nodes) == ["dan"]
    assert refused(members) == {("ada", "base"), ("cyd", "base")}


def test_a_late_joiner_takes_part_up_to_the_largest_rank():
    exchange = MemoryExchange([ADA])
    members = joined(exchange)
    exchange.connected |= {200: BOB, 201: CYD}
    joined(exchange, members)
    assert list(members.nodes) == ["ada", "bob"]
    assert refused(members) == {("cyd", "rank")}
    assert asked(exchange) == [["ada"], ["bob", "cyd"]]


def test_a_node_that_is_gone_is_forgotten_and_may_come_back():
    exchange = MemoryExchange([ADA, BOB, NumpyNode("dan", 9, base="old")])
    members = joined(exchange)
    left = {node: exchange.connected.pop(node) for node in (101, 102)}
    joined(exchange, members)
    assert (list(members.nodes), members.ids, refused(members)) == (["ada"], {"ada": 100}, set())
    exchange.connected |= {node + 100: who for node, who in left.items()}
    joined(exchange, members)
    assert members.ids == {"ada": 100, "bob": 201}
    assert refused(members) == {("dan", "base")}


def test_the_same_name_twice_is_refused_until_it_is_free():
    exchange = MemoryExchange([ADA, BOB])
    members = joined(exchange)
    exchange.connected[200] = NumpyNode("ada", 2)  # the same client, started anew
    joined(exchange, members)
    assert members.ids == {"ada": 100, "bob": 101}
    assert refused(members) == {("ada", "name")}
    del exchange.connected[100]
    joined(exchange, members)
    assert members.ids == {"ada": 200, "bob": 101}
    assert refused(members) == set()


def test_of_two_newcomers_of_one_name_the_lower_number_wins():
    exchange = MemoryExchange([ADA, NumpyNode("ada", 2)])
    exchange.arrange = lambda asked: asked[::-1]
    assert joined(exchange).nodes == {"ada": ADA.announcement()}


def test_whoever_was_turned_away_for_good_is_not_asked_again():
    exchange = MemoryExchange([ADA, NumpyNode("dan", 1, base="old"), BOB])
    members = joined(exchange)
    joined(exchange, members)
    assert asked(exchange) == [["ada", "dan", "bob"]]
    assert refused(members) == {("dan", "base")}


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
    exchange = MemoryExchange([ADA, BOB])
    exchange.tamper = lambda name, kind, number, reply: Payload(change(reply.values)) if name == "bob" else reply
    members = joined(exchange)
    assert list(members.nodes) == ["ada"]
    exchange.tamper = lambda name, kind, number, reply: reply
    assert list(joined(exchange, members).nodes) == ["ada", "bob"]
    assert asked(exchange) == [["ada", "bob"], ["bob"]]


@pytest.mark.parametrize("word", ["absent", "failed", "malformed"])
def test_one_that_does_not_answer_is_asked_again(word):
    exchange = MemoryExchange([ADA, BOB])
    exchange.tamper = lambda name, kind, number, reply: word if name == "bob" else reply
    members = joined(exchange)
    assert list(members.nodes) == ["ada"]
    exchange.tamper = lambda name, kind, number, reply: reply
    assert list(joined(exchange, members).nodes) == ["ada", "bob"]


def test_where_nobody_answers_nothing_is_fixed():
    exchange = MemoryExchange([])
    members = joined(exchange)
    assert (members.base, members.max_rank, members.nodes) == ("", 0, {})
    exchange.connected[5] = BOB
    assert joined(exchange, members).max_rank == 2
