"""For every algorithm, the shares in the record are those of the sum: with them, it comes out again bit for bit."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import DecodeLimits
from common.protocol.assignment import RankPattern
from common.protocol.messages import unpack_update
from server.algorithms import ALGORITHMS, WeightedUpdate, weights_of
from server.algorithms.weighting import WEIGHTINGS
from server.rounds.log_line import adapter_hash
from tests.helpers.server.exchange import SHAPES, NumpyNode, Recorded
from tests.helpers.server.oracle import make
from tests.helpers.server.runs import clients, plan, run

SERVER = {name: {"algorithm": name} for name in ALGORITHMS}
SERVER["fedlin"]["mode"] = "b"
SERVER["fedsgd"]["optimizer"] = "sgd"  # a first step of Adam knows only signs
CASES = [(name, rule) for name in ALGORITHMS for rule in WEIGHTINGS]


@dataclass(frozen=True)
class Inflated(NumpyNode):
    """A node that sends a B a million times as large as the one that it trained."""

    def train(self, assignment, training):
        update = super().train(assignment, training)
        if assignment.returns == "gradient":  # of the first phase of two
            return update
        large = {name: Factors(f.a, np.float32(1e6) * f.b) for name, f in update.adapter.items()}
        return replace(update, adapter=Adapter(large))


def cohort(name):
    """Four nodes, of one rank where the algorithm needs that; the last one is inflated."""
    ranks = (4, 4, 4, 4) if name == "fedit" else (8, 1, 2, 4)
    kinds = NumpyNode, NumpyNode, NumpyNode, Inflated
    rows = {"ada": 10, "bob": 20, "cyd": 5, "eve": 40}
    return [kind(n, rank, rows[n]) for kind, n, rank in zip(kinds, rows, ranks, strict=True)]


def again(algorithm, messenger, shares):
    """Return the hash of the broadcast after round 1 with these shares, from the replies as they were sent."""
    state, updates = algorithm.initial(SHAPES), []
    for node in messenger.connected.values():
        assignment = algorithm.assign(state, node.name, RankPattern.fitting(node.rank, SHAPES))
        modules = unpack_update(messenger.replies["train", 1, node.name].blob, assignment, DecodeLimits())
        updates.append(WeightedUpdate(shares[node.name], node.rank, modules, assignment.start, node.name))
    return adapter_hash(algorithm.broadcast_update(algorithm.reduce(state, updates)))


@pytest.mark.parametrize(("name", "weights"), CASES)
def test_the_recorded_shares_are_those_of_the_sum(name, weights, tmp_path):
    nodes, server = cohort(name), SERVER[name] | {"weights": weights, "norm_bound": 0.0}
    messenger = Recorded(nodes)
    entries = run(tmp_path, messenger, plan(1, **server), max_rank=nodes[0].rank)
    shares = {node: record["share"] for node, record in clients(entries[1]).items()}
    algorithm = make(seed=7, ranks=[node.rank for node in nodes], train=plan(1).train, **server)
    assert again(algorithm, messenger, shares) == entries[1]["adapter_hash"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    other = dict(zip(shares, reversed(list(shares.values())), strict=True))
    assert other == shares or again(algorithm, messenger, other) != entries[1]["adapter_hash"]  # control


@pytest.mark.parametrize(("name", "weights"), CASES)
def test_no_factors_buy_more_than_twice_an_equal_share(name, weights, tmp_path):
    server = SERVER[name] | {"weights": weights, "norm_bound": 0.0}
    capped, free = (
        clients(run(tmp_path / folder, Recorded(nodes := cohort(name)), plan(1, **keys), max_rank=nodes[0].rank)[1])
        for folder, keys in (("capped", server), ("free", server | {"max_share": 1.0}))
    )
    eve, free = capped["eve"]["share"], free["eve"]["share"]
    if WEIGHTINGS[weights_of(plan(1, **server).server)].reads_factors:
        assert eve == pytest.approx(0.5)
        assert free > 0.99  # control
    else:
        assert eve == free == {"uniform": 0.25}.get(weights, 40 / 75)
