"""Properties that every algorithm of the registry promises, whatever its equations are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import encode_adapter
from common.adapters.joined import join_adapters
from common.errors import ConfigError
from common.protocol.assignment import RankPattern
from server.algorithms import ALGORITHMS, WeightedUpdate
from tests.helpers.server import oracle
from tests.helpers.server.exchange import dense
from tests.helpers.server.oracle import SHAPES, dense_aggregation_error, distance, make, product, send, size
from tests.helpers.server.runs import fresh, hashes, plan, run

RANKS = dict.fromkeys(ALGORITHMS, (1, 4, 16)) | {"fedit": (4, 4, 4)}
ALL = sorted(ALGORITHMS)
SUMS = [name for name in ALL if name != "fedsgd"]
"""Rules that add what arrives to the global update, rather than step along it."""


@pytest.fixture(params=ALL)
def algorithm(request):
    return make(request.param, RANKS[request.param])


@pytest.fixture(params=SUMS)
def summing(request):
    return make(request.param, RANKS[request.param])


def nodes(name):
    """Four nodes, of one rank where the algorithm needs that."""
    return fresh(rank=4) if name == "fedit" else fresh()


def two_rounds(name, folder, exchange):
    """Run two rounds, in the mode that the algorithm needs, and return the hash after each."""
    settings = plan(2, algorithm=name, mode="b" if name == "fedlin" else "both")
    settings = replace(settings, train=replace(settings.train, batch=10**8))  # allows any count
    return hashes(run(folder, exchange, settings, max_rank=max(node.rank for node in exchange.connected.values())))


def bits(state):
    return state.round, state.dropped, encode_adapter(join_adapters(**state.parts), "f64")


def test_one_client_alone_is_the_sum(summing):
    state = summing.initial(SHAPES)
    for rank in (max(summing.settings.ranks), min(summing.settings.ranks)) * 2:
        sent = send(summing, state, [rank])
        after = oracle.reduce(summing, state, sent)
        assert dense_aggregation_error(summing, state, after, sent) <= 1e-6
        state = after


def test_one_client_alone_decides_the_first_broadcast(summing):
    before = summing.initial(SHAPES)
    sent = send(summing, before, [4])
    after = product(summing.broadcast_update(oracle.reduce(summing, before, sent)))
    truth = product(sent[0].modules)
    assert distance(after, truth) <= 1e-6 * size(truth)


@pytest.mark.parametrize(("name", "ranks"), [("increments", (4, 8)), ("fedit", (8,)), ("hetlora", (4,))])
def test_a_scale_is_folded_once(name, ranks):
    """A client multiplies its raw B by alpha / r; the server takes what is sent as it is."""
    algorithm, rng, updates, truth = make(name, ranks, alpha=16.0), np.random.default_rng(0), [], 0.0
    state = algorithm.initial({"q": (12, 20)})
    for rank in ranks:
        assignment = algorithm.assign(state, "ada", RankPattern(rank))
        a, b = rng.standard_normal((rank, 20)), rng.standard_normal((12, rank))
        updates.append(WeightedUpdate(1 / len(ranks), rank, Adapter({"q": Factors(a, assignment.scaling * b)})))
        truth += 16 / rank * b @ a / len(ranks)
    after = dense(algorithm.total_update(algorithm.reduce(state, updates))["q"])
    assert np.linalg.norm(after - truth) <= 1e-6 * np.linalg.norm(truth)


def test_under_one_common_a_all_rules_are_the_exact_mean():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 20)), rng.standard_normal((12, 4))
    turns = [np.linalg.qr(rng.standard_normal((12, 12)))[0] for _ in range(3)]  # the norms stay equal
    updates = [WeightedUpdate(1 / 3, 4, Adapter({"q": Factors(a, turn @ b)})) for turn in turns]
    truth = sum(dense(update.modules["q"]) for update in updates) / 3
    for name in SUMS:
        algorithm = make(name, (4,))
        after = algorithm.reduce(algorithm.initial({"q": (12, 20)}), updates)
        assert np.linalg.norm(dense(algorithm.broadcast_update(after)["q"]) - truth) <= 1e-6 * np.linalg.norm(truth)


def test_a_reduction_is_a_pure_function(algorithm):
    before = algorithm.initial(SHAPES)
    sent = send(algorithm, before, algorithm.settings.ranks)
    untouched = bits(before)
    after = bits(oracle.reduce(algorithm, before, sent))
    assert bits(oracle.reduce(algorithm, before, sent)) == after
    assert bits(before) == untouched != after


# --- gauge: (B Q, Q^-1 A) is the same update ---


def moved(name, seed):
    """Return the change of the global update if every client writes its update in other coordinates."""
    rng = np.random.default_rng(seed)
    algorithm = make(name, RANKS[name], rank_global=5)
    before = algorithm.initial(SHAPES)
    sent = [update.weighted for update in send(algorithm, before, RANKS[name])]
    turned = [WeightedUpdate(u.share, u.rank, Adapter({n: turn(f, rng) for n, f in u.modules.items()})) for u in sent]
    one, two = (product(algorithm.broadcast_update(algorithm.reduce(before, updates))) for updates in (sent, turned))
    return distance(one, two) / size(one)


def turn(factors, rng):
    q = np.linalg.qr(rng.standard_normal((factors.rank, factors.rank)))[0] * rng.uniform(0.5, 2, factors.rank)
    return Factors(np.linalg.solve(q, factors.a.astype("f8")), factors.b.astype("f8") @ q)


@settings(max_examples=25)
@given(st.integers(0, 2**32))
def test_increments_know_no_coordinates(seed):
    assert moved("increments", seed) <= 1e-6


@pytest.mark.parametrize("name", ["fedit", "hetlora"])
def test_averages_of_factors_do(name):
    assert moved(name, 0) > 0.1


# --- whole rounds: order of arrival, scale of the counts ---


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=10)
@given(order=st.permutations(range(4)))
def test_the_order_of_arrival_changes_no_bit(name, order, tmp_path_factory):
    exchange = nodes(name)
    exchange.arrange = lambda asked: sorted(asked, key=lambda node: order[node % 4])
    arrived = two_rounds(name, tmp_path_factory.mktemp("run"), exchange)
    assert arrived == two_rounds(name, tmp_path_factory.mktemp("run"), nodes(name))


def test_another_order_of_the_sum_would_change_bits():
    algorithm = make()
    before = algorithm.initial(SHAPES)
    updates = [update.weighted for update in send(algorithm, before, (1, 4, 16), (0.5, 0.3, 0.2))]
    assert bits(algorithm.reduce(before, updates)) != bits(algorithm.reduce(before, updates[::-1]))


@pytest.mark.parametrize("name", ALL)
def test_counts_matter_only_to_each_other(name, tmp_path):
    def end(number, times):
        exchange = nodes(name)
        exchange.tamper = times
        return two_rounds(name, tmp_path / str(number), exchange)

    def times(factor, only=("ada", "bob", "cyd", "eve")):
        def tamper(name, kind, number, reply):
            if kind != "train" or name not in only:
                return reply
            return type(reply)({**reply.values, "examples": reply.values["examples"] * factor}, reply.blob)

        return tamper

    reference = end(0, times(1))
    assert end(1, times(3)) == end(2, times(10**6)) == reference
    changed = end(3, times(3, only=("ada",)))
    assert (changed == reference) == (name in ("hetlora", "fedsgd"))  # which weigh by norms and by announced rows


def test_an_unknown_algorithm_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"\[server\] algorithm = 'increment' is unknown.*'increments'"):
        make("increment")
