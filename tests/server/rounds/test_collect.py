"""One round's replies become shares and spooled updates, in order of name whatever the order of anything else."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.protocol.assignment import RankPattern, Training
from common.protocol.messages import RoundId
from server.algorithms.weighting import find_shares, weighting_named
from server.links.grace import Grace
from server.links.links import Links
from server.metrics.clients import ClientMetrics
from server.rounds.collect import RoundRequest, collect_updates
from tests.helpers.server.exchange import SHAPES, MemoryExchange, NumpyNode
from tests.helpers.server.oracle import make

NODES = {31: NumpyNode("cyd", 2, rows=5), 17: NumpyNode("ada", 8), 23: NumpyNode("bob", 1, rows=20)}


class Once:
    """A round's call, made of these nodes."""

    def __init__(self, tmp_path: Path) -> None:
        self.exchange = MemoryExchange([])
        self.exchange.connected = dict(NODES)
        self.folder, self.done = tmp_path, []
        algorithm = make(ranks=(1, 2, 8))
        state = algorithm.initial(SHAPES)
        assign = lambda name, rank: algorithm.assign(state, name, RankPattern(rank))  # noqa: E731
        training = Training((0.1, 0.1), 16)
        self.call = RoundRequest(RoundId("run", 1, "parent", "base"), 1, lambda name: training, assign)

    def collect(self, numbers=(31, 17, 23), weights="examples"):
        self.done = []
        links = Links(self.exchange, "plain")
        self.records = {n: ClientMetrics(NODES[n].name, NODES[n].rank, NODES[n].rows) for n in numbers}
        path, done = self.folder.joinpath, lambda *told: self.done.append(told)
        updates = collect_updates(links, self.call, self.records, path, done, Grace(1, None))
        shares = find_shares(updates, weighting_named(weights))
        return [update.weighted(share) for update, share in zip(updates, shares, strict=True)]


@pytest.fixture
def once(tmp_path):
    return Once(tmp_path)


def bits(updates):
    return [(u.share, u.rank, encode_adapter(Adapter(dict(u.modules)))) for u in updates]


def test_updates_come_in_order_of_name(once):
    updates = once.collect()
    assert [(update.rank, update.share) for update in updates] == [(8, 10 / 35), (1, 20 / 35), (2, 5 / 35)]
    names = ["ada", "bob", "cyd"]
    assert sorted(path.name for path in once.folder.iterdir()) == [*(f".values.1.{name}" for name in names), *names]
    assert [update.name for update in updates] == ["ada", "bob", "cyd"]


def test_neither_the_order_of_the_cohort_nor_of_arrival_matters(once):
    reference = bits(once.collect())
    for numbers in permutations(NODES):
        assert bits(once.collect(numbers)) == reference
        once.exchange.arrange = lambda asked: asked[::-1]


def test_it_tells_of_each_reply_as_it_arrives(once):
    once.exchange.arrange = lambda asked: sorted(asked, reverse=True)
    once.exchange.tamper = lambda name, kind, number, reply: {"bob": "absent", "cyd": "failed"}.get(name, reply)
    (update,) = once.collect()
    assert once.done == [("cyd", "refused"), ("bob", "absent"), ("ada", "ok")]
    assert (update.rank, update.share) == (8, 1.0)


def test_bytes_are_counted_even_of_a_reply_that_is_refused(once):
    once.exchange.tamper = lambda name, kind, number, reply: replace(reply, values={})
    assert once.collect() == []
    assert all(record.bytes_up > 0 < record.bytes_down for record in once.records.values())
    once.exchange.tamper = lambda name, kind, number, reply: "absent"
    once.collect()
    assert all(record.bytes_up == 0 < record.bytes_down for record in once.records.values())


@pytest.mark.parametrize(("weights", "expected"), [("tokens", 10 / 35), ("examples", 10 / 35), ("uniform", 1 / 3)])
def test_shares_follow_the_rule(weights, expected, once):
    assert once.collect(weights=weights)[0].share == expected


def test_tokens_weigh_apart_from_examples(once):
    once.exchange.tamper = lambda name, kind, number, reply: (
        replace(reply, values=dict(reply.values) | {"tokens": 1}) if name == "bob" else reply
    )
    assert [update.share for update in once.collect(weights="tokens")] == [70 / 106, 1 / 106, 35 / 106]
