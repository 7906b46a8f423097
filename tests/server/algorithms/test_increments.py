"""The sum is exact, what a truncation leaves out comes back, and what a cap drops is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from server.algorithms import WeightedUpdate
from server.metrics.exactness import aggregation_error, broadcast_gap
from tests.helpers.server import oracle
from tests.helpers.server.oracle import (
    MIXED,
    SHAPES,
    dense_aggregation_error,
    distance,
    flipped,
    make,
    product,
    send,
    size,
)

EXACT = 1e-6

sizes = st.integers(1, 9)
cohorts = st.lists(st.sampled_from(MIXED), min_size=1, max_size=4)


def rounds(algorithm, shapes, cohorts):
    """Return the state before each round, the updates sent in it, and the state after."""
    state = algorithm.initial(shapes)
    for ranks in cohorts:
        sent = send(algorithm, state, ranks)
        after = oracle.reduce(algorithm, state, sent)
        yield state, sent, after
        state = after


def reported(algorithm, before, after, sent):
    """Return the aggregation error as the server computes it."""
    updates = [update.weighted for update in sent]
    parts = algorithm.total_update(before), algorithm.total_update(after), algorithm.dropped_update(after)
    return aggregation_error(*parts, updates)


@pytest.mark.parametrize("mode", ["both", "b"])
@pytest.mark.parametrize("a", ["warm", "fresh", "gaussian"])
def test_every_round_is_exact_with_ranks_from_1_to_64(mode, a):
    algorithm = make(mode=mode, a=a)
    for before, sent, after in rounds(algorithm, SHAPES, [MIXED, (64, 1), MIXED[::-1]]):
        assert dense_aggregation_error(algorithm, before, after, sent) <= EXACT
        assert reported(algorithm, before, after, sent) <= EXACT


@settings(max_examples=40)
@given(st.tuples(sizes, sizes), st.lists(cohorts, min_size=1, max_size=3), st.sampled_from(["both", "b"]))
def test_every_round_is_exact_for_any_shape_and_cohort(shape, cohorts, mode):
    algorithm = make(mode=mode)
    for before, sent, after in rounds(algorithm, {"one": shape, "two": (5, 3)}, cohorts):
        assert dense_aggregation_error(algorithm, before, after, sent) <= EXACT


@pytest.mark.parametrize("position", [0, 100, 300])
@pytest.mark.parametrize("client", range(3))
def test_a_flipped_byte_shows_in_the_aggregation_error(client, position):
    algorithm = make(ranks=(16, 64, 4))
    ((before, sent, after),) = rounds(algorithm, {"square": (64, 64)}, [(16, 64, 4)])
    changed = [flipped(update, position) if i == client else update for i, update in enumerate(sent)]
    assert dense_aggregation_error(algorithm, before, after, sent) <= EXACT
    for check in (
        dense_aggregation_error(algorithm, before, after, changed),
        reported(algorithm, before, after, changed),
    ):
        assert check > 100 * EXACT


def test_the_aggregation_error_is_that_of_the_dense_matrices_where_a_rule_is_inexact():
    algorithm = make("fedit", (4,))
    for before, sent, after in rounds(algorithm, SHAPES, [(4, 4, 4)] * 2):
        truth = dense_aggregation_error(algorithm, before, after, sent)
        assert truth > 0.1
        assert reported(algorithm, before, after, sent) == pytest.approx(truth, rel=1e-9)


def test_a_cap_on_the_kept_rank_tells_what_it_drops():
    algorithm = make(ranks=(4, 8), rank_global=4, rank_kept=6)
    truth, dropped = dict.fromkeys(SHAPES, 0.0), 0.0
    for before, sent, after in rounds(algorithm, SHAPES, [(4, 8, 8)] * 4):
        assert dense_aggregation_error(algorithm, before, after, sent) <= EXACT
        assert reported(algorithm, before, after, sent) <= EXACT
        whole = {name: product(algorithm.total_update(before))[name] + oracle.delta(sent, name) for name in SHAPES}
        lost = {name: matrix - best(matrix, 6) for name, matrix in whole.items()}
        dropped += size(lost)
        assert distance(product(algorithm.dropped_update(after)), lost) <= EXACT * size(lost)
        assert after.dropped == pytest.approx(dropped, rel=EXACT)
        assert max(factors.rank for factors in algorithm.total_update(after).values()) == 6
        truth = {name: truth[name] + oracle.delta(sent, name) for name in SHAPES}
    assert distance(product(algorithm.total_update(after)), truth) > 0.01 * size(truth)


def test_without_a_cap_that_bites_nothing_is_lost():
    algorithm = make(ranks=(4, 8), rank_global=4, rank_kept=1000)
    for _, _, after in rounds(algorithm, SHAPES, [(4, 8, 8)] * 3):
        assert size(product(algorithm.dropped_update(after))) == after.dropped == 0.0


def best(matrix, rank):
    """Return the best approximation of this rank."""
    u, sigma, vt = np.linalg.svd(matrix)
    return (u[:, :rank] * sigma[:rank]) @ vt[:rank]


def test_the_broadcast_is_the_best_approximation_and_its_residual_is_told():
    algorithm = make(ranks=(4, 8), rank_global=5)
    for _, _, after in rounds(algorithm, SHAPES, [(4, 8, 8)] * 3):
        mass, broadcast = product(algorithm.total_update(after)), product(algorithm.broadcast_update(after))
        assert distance(broadcast, {name: best(mass[name], 5) for name in mass}) <= EXACT * size(mass)
        truth = distance(broadcast, mass) / size(mass)
        assert truth > 0.1
        assert broadcast_gap(algorithm.total_update(after), algorithm.broadcast_update(after)) == pytest.approx(
            truth, rel=EXACT
        )


def test_no_mass_is_lost_by_a_small_broadcast():
    algorithm = make(ranks=(4, 8), rank_global=2, rank_kept=1000)
    truth = dict.fromkeys(SHAPES, 0.0)
    for _, sent, after in rounds(algorithm, SHAPES, [(4, 8, 8)] * 5):
        truth = {name: truth[name] + oracle.delta(sent, name) for name in SHAPES}
        assert distance(product(algorithm.total_update(after)), truth) <= EXACT * size(truth)
        assert distance(product(algorithm.broadcast_update(after)), truth) > 0.1 * size(truth)


def test_what_a_broadcast_left_out_comes_back_when_it_grows():
    algorithm = make(ranks=(3,), rank_global=2)
    state, broadcasts = algorithm.initial({"q": (6, 5)}), []
    for strengths in [(10, 9, 1), (0, 0, 4), (0, 0, 5)]:
        update = Factors(np.eye(3, 5), np.eye(6, 3) * strengths)
        state = algorithm.reduce(state, [WeightedUpdate(1.0, 3, Adapter({"q": update}))])
        broadcasts.append(lowrank.spectrum(algorithm.broadcast_update(state)["q"]))
    assert np.allclose(broadcasts, [[10, 9], [10, 9], [10, 10]])  # 1 + 4 + 5: nothing of the third was forgotten
