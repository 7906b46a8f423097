"""The aggregation error and the residual against dense matrices, for factors that no algorithm made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from server.algorithms import WeightedUpdate
from server.metrics.exactness import aggregation_error, broadcast_gap
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.exchange import dense

sizes = st.integers(1, 8)
ranks = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def made(shape, rank, seed):
    return random_adapter({"one": (*shape, rank), "two": (3, 4, rank)}, seed, np.float64)


def norm(modules):
    return np.sqrt(sum(np.sum(matrix**2) for matrix in modules.values()))


@settings(max_examples=50)
@given(st.tuples(sizes, sizes), ranks, st.integers(0, 2), st.integers(0, 3))
def test_the_aggregation_error_is_that_of_dense_matrices(shape, ranks, start_rank, lost_rank):
    before, after, lost = made(shape, 2, 1), made(shape, 5, 2), made(shape, lost_rank, 3)
    starts = {rank: made(shape, start_rank, 20 + rank) for rank in ranks}
    updates = [WeightedUpdate(1 / len(ranks), rank, made(shape, rank, 10 + rank), starts[rank]) for rank in ranks]
    delta, error = {}, {}
    for name in before:
        moves = [u.share * (dense(u.modules[name]) - dense(starts[u.rank][name])) for u in updates]
        delta[name] = np.sum(moves, axis=0)
        error[name] = dense(after[name]) + dense(lost[name]) - dense(before[name]) - delta[name]
    assert aggregation_error(before, after, lost, updates) == pytest.approx(norm(error) / norm(delta), rel=1e-9)


def test_a_start_without_b_costs_nothing():
    """Its product is zero, whatever its A is."""
    after, start = made((5, 6), 3, 1), Adapter({n: f.leading_part(0) for n, f in made((5, 6), 3, 2).items()})
    idle = Adapter({n: Factors(f.a, np.zeros((f.shape[0], 3))) for n, f in made((5, 6), 3, 3).items()})
    before, sent = made((5, 6), 1, 5), made((5, 6), 2, 4)
    errors = [aggregation_error(before, after, Adapter(), [WeightedUpdate(1.0, 2, sent, s)]) for s in (start, idle)]
    assert errors[0] == errors[1]


def test_small_errors_of_large_terms_keep_their_digits():
    """By inner products, a difference of 1e-9 would drown at 1e-8."""
    before = made((50, 60), 4, 1)
    delta = Adapter({name: Factors(f.a, 1e-3 * f.b) for name, f in made((50, 60), 3, 2).items()})
    error = made((50, 60), 1, 3)
    wrong = {name: Factors(f.a, 1e-12 * f.b) for name, f in error.items()}
    parts = {name: (before[name], delta[name], wrong[name]) for name in before}
    after = {n: Factors(np.vstack([f.a for f in p]), np.hstack([f.b for f in p])) for n, p in parts.items()}
    truth = norm({n: dense(f) for n, f in wrong.items()}) / norm({n: dense(f) for n, f in delta.items()})
    assert truth < 1e-8
    assert aggregation_error(before, after, {}, [WeightedUpdate(1.0, 3, delta)]) == pytest.approx(truth, rel=1e-2)


def test_where_nothing_was_sent_any_change_is_an_error():
    nothing, idle = made((5, 6), 0, 0), [WeightedUpdate(1.0, 2, made((5, 6), 0, 0))]
    change = made((5, 6), 2, 1)
    assert aggregation_error(nothing, nothing, {}, idle) == 0.0
    size = norm({name: dense(factors) for name, factors in change.items()})
    assert aggregation_error(nothing, change, {}, idle) == pytest.approx(size)


@settings(max_examples=30)
@given(st.tuples(sizes, sizes), st.integers(0, 5), st.integers(1, 5))
def test_the_residual_is_that_of_dense_matrices(shape, sent, kept):
    mass, broadcast = made(shape, kept, 1), made(shape, sent, 2)
    gap = {name: dense(mass[name]) - dense(broadcast[name]) for name in mass}
    truth = norm(gap) / norm({name: dense(factors) for name, factors in mass.items()})
    assert broadcast_gap(mass, broadcast) == pytest.approx(truth, rel=1e-9)


def test_the_residual_of_nothing_is_zero():
    assert broadcast_gap(made((5, 6), 0, 0), made((5, 6), 0, 0)) == 0.0
