"""One node with any finite factors moves a round's sum by at most its bound times its share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.change import change_norm
from common.protocol.assignment import RankPattern
from common.settings.recipe import Train
from server.algorithms.weighting import ClientUpdate
from server.clipping.clip import NormBound, ScaledMoves
from server.clipping.norm_bound import OrderBound
from server.metrics.exactness import aggregation_error
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.attacks import KINDS, attack, is_valid
from tests.helpers.server.oracle import distance, make, product, send, size
from tests.helpers.server.runs import FOUR, clients, fresh, plan, run

SHAPES = {"q": (12, 20), "v": (6, 5)}
RATES = (0.02, 0.05)
EXACT = {"both": ("increments", {}), "b": ("increments", {"mode": "b"}), "fedlin": ("fedlin", {})}
SHARES = (0.2, 0.3, 0.25, 0.25)
attacks = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
    st.floats(-30, 30).map(lambda x: 10**x),
    st.floats(-30, 30).map(lambda x: 10**x),
)


def begun(name, ranks, options):
    """Return an algorithm, and its state after a round of three honest nodes."""
    algorithm = make(name, ranks, **options)
    state = algorithm.initial(SHAPES)
    return algorithm, algorithm.reduce(state, [sent.weighted for sent in send(algorithm, state, ranks[:3])])


def order_of(algorithm, state, rank):
    return algorithm.assign(state, "eve", RankPattern.fitting(rank, SHAPES))


def as_update(name, rank, order, modules):
    return ClientUpdate(name, rank, 1, 1, modules, order, change_norm(modules, order.start))


def round_with(algorithm, state, ranks, sent, bound="auto"):
    """Return state and clipped updates after honest updates of all but the last rank, and `sent` of that."""
    orders = [order_of(algorithm, state, rank) for rank in ranks]
    honest = [random_move(order, seed) for seed, order in enumerate(orders[:-1])]
    updates = [
        as_update(f"n{i}", r, o, m) for i, (r, o, m) in enumerate(zip(ranks, orders, [*honest, sent], strict=True))
    ]
    clipped = NormBound(bound, algorithm.averages_apart).clip(updates, RATES, [])
    weighted = [update.weighted(share) for update, share in zip(clipped, SHARES, strict=True)]
    return algorithm.reduce(state, weighted), clipped


def random_move(order, seed):
    """Return factors that moved well within the order."""
    random = np.random.default_rng(seed)
    return Adapter(
        {
            n: Factors(
                f.a + 0.01 * random.standard_normal(f.a.shape) * (order.trains != "b"),
                f.b + 0.01 * random.standard_normal(f.b.shape),
            ).astype("f4")
            for n, f in order.start.items()
        }
    )


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=60, deadline=None)
@given(attacks)
def test_an_exact_sum_moves_by_at_most_bound_times_share(name, made):
    algorithm, state = begun(EXACT[name][0], (4, 1, 8, 4), EXACT[name][1])
    order = order_of(algorithm, state, 4)
    sent = attack(order, *made)
    assume(is_valid(order, sent))
    (attacked, clipped), (idle, _) = (round_with(algorithm, state, (4, 1, 8, 4), each) for each in (sent, order.start))
    bound = min(OrderBound(order, RATES).norm, 8 * sorted(update.norm for update in clipped)[1])
    moved = distance(*(product(algorithm.total_update(after)) for after in (attacked, idle)))
    assert moved <= SHARES[-1] * bound * (1 + 1e-5) + 1e-12
    before, after = product(algorithm.total_update(state)), product(algorithm.total_update(attacked))
    truth = {n: sum(share * dense_of(update, n) for share, update in zip(SHARES, clipped, strict=True)) for n in before}
    assert distance({n: after[n] - before[n] for n in after}, truth) <= 1e-5 * size(truth)
    assert [update.clip for update in clipped[:3]] == [1.0] * 3


def dense_of(update, name):
    f = update.modules[name]
    return f.b.astype("f8") @ f.a.astype("f8")


def test_without_a_bound_one_reply_is_all_of_the_sum():
    algorithm, state = begun("increments", (4, 1, 8, 4), {})
    order = order_of(algorithm, state, 4)
    after, clipped = round_with(algorithm, state, (4, 1, 8, 4), attack(order, "large", 0, 1.0, 1e30), bound=0.0)
    assert clipped[-1].clip == 1.0
    assert size(product(algorithm.total_update(after))) > 1e28


@pytest.mark.parametrize("name", ["fedit", "hetlora"])
@settings(max_examples=60, deadline=None)
@given(attacks)
def test_averages_of_factors_move_by_at_most_the_share_of_what_the_order_allows_each(name, made):
    ranks = (4, 4, 4, 4) if name == "fedit" else (4, 1, 8, 4)
    algorithm, state = begun(name, ranks, {})
    order = order_of(algorithm, state, 4)
    sent = attack(order, *made)
    assume(is_valid(order, sent))
    (attacked, clipped), (idle, _) = (round_with(algorithm, state, ranks, each) for each in (sent, order.start))
    limits = OrderBound(order, RATES)
    for module, start in order.start.items():
        for side, most in zip("ab", limits.moves(start), strict=True):
            one, two = (getattr(algorithm.broadcast_update(after)[module], side) for after in (attacked, idle))
            rounding = 1e-6 * np.linalg.norm(two)
            assert np.linalg.norm(one.astype("f8") - two) <= SHARES[-1] * most * (1 + 1e-6) + rounding
    assert change_norm(clipped[-1].modules, order.start) <= limits.norm * (1 + 1e-6)
    assert [update.clip for update in clipped[:3]] == [1.0] * 3


@settings(max_examples=60, deadline=None)
@given(attacks, st.floats(1e-6, 1.0))
def test_averages_of_factors_keep_a_number_too(made, bound):
    algorithm, state = begun("hetlora", (4, 1, 8, 4), {})
    order = order_of(algorithm, state, 4)
    sent = attack(order, *made)
    assume(is_valid(order, sent))
    _, clipped = round_with(algorithm, state, (4, 1, 8, 4), sent, bound)
    for update in clipped:
        change = distance(product(update.modules), product(update.start))
        assert change <= bound * (1 + 1e-6) + 1e-12


def test_a_tiny_b_beside_a_huge_a_passes_no_average():
    """Its product is small, which is all that a bound on the product sees."""
    algorithm, state = begun("fedit", (4, 4, 4, 4), {})
    order = order_of(algorithm, state, 4)
    sent = {n: Factors(1e12 * f.a, 1e-12 * f.b).astype("f4") for n, f in order.start.items()}
    assert change_norm(sent, order.start) < 1e-3
    for bound in ("auto", 1.0):
        after, clipped = round_with(algorithm, state, (4, 4, 4, 4), Adapter(sent), bound)
        assert max(np.abs(f.a).max() for f in algorithm.broadcast_update(after).values()) < 10
        assert clipped[-1].clip < 1e-9
    after, _ = round_with(algorithm, state, (4, 4, 4, 4), Adapter(sent), 0.0)
    assert max(np.abs(f.a).max() for f in algorithm.broadcast_update(after).values()) > 1e9  # control


def test_columns_that_cancel_are_clipped_by_what_they_hide():
    """Beyond float64's digits their product is unknown: another order of sums may make it large."""
    start = Adapter({"q": Factors(np.eye(2, 6), np.zeros((5, 2)))})
    b = np.full((5, 2), 1e25) * [1, -1]
    sent = Adapter({"q": Factors(np.ones((2, 6)), b).astype("f4")})
    assert np.linalg.norm(sent["q"].b.astype("f8") @ sent["q"].a) == 0
    assert change_norm(sent, start) > 1e14
    honest = random_adapter({"q": (5, 6, 2)}, 0)
    alone = np.linalg.norm(honest["q"].b.astype("f8") @ honest["q"].a)
    assert change_norm(honest, start) == pytest.approx(alone, rel=1e-8)  # control


def test_scaled_moves_are_read_one_at_a_time_and_scale_the_move_alone():
    start, sent = (random_adapter({"q": (5, 6, 2), "v": (4, 3, 2)}, seed) for seed in (0, 1))
    reads = []

    class Spooled(dict):
        def __getitem__(self, name):
            reads.append(name)
            return super().__getitem__(name)

    scaled = ScaledMoves(Spooled(sent), start, {"q": (1.0, 0.25), "v": (0.5, 1.0)})
    assert list(scaled) == ["q", "v"] and len(scaled) == 2 and not reads
    assert scaled["q"].a is sent["q"].a or np.array_equal(scaled["q"].a, sent["q"].a)
    assert np.allclose(scaled["q"].b, start["q"].b + 0.25 * (sent["q"].b - start["q"].b))
    assert np.allclose(scaled["v"].a, (start["v"].a + sent["v"].a) / 2)
    assert set(reads) == {"q", "v"}


def test_exactness_is_that_of_the_clipped_sum():
    algorithm, state = begun("increments", (4, 1, 8, 4), {})
    order = order_of(algorithm, state, 4)
    sent = attack(order, "large", 0, 1.0, 1e30)
    after, clipped = round_with(algorithm, state, (4, 1, 8, 4), sent)
    totals = algorithm.total_update(state), algorithm.total_update(after), algorithm.dropped_update(after)
    weighted = [update.weighted(share) for update, share in zip(clipped, SHARES, strict=True)]
    assert clipped[-1].clip < 1e-25
    assert aggregation_error(*totals, weighted) < 1e-6
    received = [*weighted[:-1], as_update("eve", 4, order, sent).weighted(SHARES[-1])]
    assert aggregation_error(*totals, received) > 0.9  # control


def test_an_empty_phase_has_nothing_to_clip():
    assert NormBound("auto", apart=False).clip([], RATES, []) == []


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
@pytest.mark.parametrize("algorithm", ["increments", "fedsgd", "hetlora"])
def test_rounding_to_the_wire_clips_no_honest_node(algorithm, wire, tmp_path):
    """Also at the end of a schedule, where nodes move less than a step of the wire."""
    settings = plan(8, algorithm=algorithm, wire=wire)
    settings = replace(settings, train=Train(rounds=8, steps=3, lr=1e-3, schedule="cosine"))
    entries = run(tmp_path, fresh(held={}), settings)
    assert {client["clip"] for entry in entries[1:] for client in clients(entry).values()} == {1.0}


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
@pytest.mark.parametrize("seed", range(6))
def test_rounding_clips_no_honest_node_that_moves_as_far_as_its_order_allows(wire, seed, tmp_path):
    """One step under an A of orthonormal rows: each number of B moves by the rate, and ||B A|| is ||B||."""
    settings = replace(plan(3, mode="b", wire=wire), seed=seed)
    settings = replace(settings, train=replace(settings.train, steps=1))
    entries = run(tmp_path, fresh(FOUR[:3], held={}), settings)
    assert {client["clip"] for entry in entries[1:] for client in clients(entry).values()} == {1.0}
