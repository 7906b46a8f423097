"""Algebra on factors against the same thing done on dense float64 matrices."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.adapters.adapter import Factors
from common.adapters.lowrank import inner, norm, recompress, spectrum, stack, svd, truncate

CLOSE = 1e-9
SIZES = st.integers(1, 9)


def _dense(factors):
    return factors.b.astype("f8") @ factors.a.astype("f8")


def _random(seed, d, k, r, dtype="f8"):
    rng = np.random.default_rng(seed)
    return Factors(rng.standard_normal((r, k)).astype(dtype), rng.standard_normal((d, r)).astype(dtype))


@st.composite
def several(draw, count):
    """Factors of one shape: ranks from 0 to more than min(d, k), both precisions."""
    d, k, seed = draw(SIZES), draw(SIZES), draw(st.integers(0, 2**32))
    ranks = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    return [_random(seed + i, d, k, r, draw(st.sampled_from(["f4", "f8"]))) for i, r in enumerate(ranks)]


def one():
    return several(1).map(lambda factors: factors[0])


def _assert_close(actual, expected, scale=None):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=CLOSE * max(np.linalg.norm(expected), scale or 0))


@given(several(4), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_stack_is_the_weighted_sum_of_products(terms, weights):
    total = stack(zip(weights, terms, strict=True))
    _assert_close(_dense(total), sum(c * _dense(f) for c, f in zip(weights, terms, strict=True)), scale=1)
    assert total.rank == sum(f.rank for f in terms)
    assert total.a.dtype == total.b.dtype == np.float64


def test_stack_puts_the_weight_on_one_factor_only():
    f = _random(0, 4, 3, 2)
    _assert_close(_dense(stack([(0.5, f)])), 0.5 * _dense(f))
    np.testing.assert_array_equal(stack([(0.5, f)]).a, f.a)


@pytest.mark.parametrize("terms", [[], [(4, 3), (4, 5)], [(4, 3), (5, 3)]])
def test_stack_refuses_no_terms_and_other_shapes(terms):
    with pytest.raises(ValueError, match=r"\w"):
        stack([(1.0, _random(0, d, k, 2)) for d, k in terms])


@given(one(), st.integers(0, 12))
def test_truncate_is_the_best_approximation(factors, rank):
    """Eckart-Young: no matrix of this rank is nearer than the norm of the singular values beyond it."""
    truncated, sigma = truncate(factors, rank), np.linalg.svd(_dense(factors), compute_uv=False)
    assert truncated.rank <= rank
    assert truncated.shape == factors.shape
    error = np.linalg.norm(_dense(factors) - _dense(truncated))
    assert error == pytest.approx(np.linalg.norm(sigma[rank:]), abs=CLOSE * (1 + sigma.sum()))


@given(one(), st.floats(0.01, 1))
def test_energy_keeps_the_fewest_directions_that_hold_the_share(factors, energy):
    power = np.cumsum(spectrum(factors) ** 2)
    assume(power.size and np.abs(power / power[-1] - energy).min() > 1e-6)
    kept = truncate(factors, energy=energy).rank
    assert power[kept - 1] >= energy * power[-1]
    assert kept == 1 or power[kept - 2] < energy * power[-1]


def test_rank_and_energy_hold_together():
    factors = Factors(np.eye(4), np.diag([4.0, 3.0, 2.0, 1.0]))
    assert [truncate(factors, energy=e).rank for e in (0.5, 16 / 30, 0.6, 29 / 30, 0.99, 1.0)] == [1, 1, 2, 3, 4, 4]
    assert truncate(factors, rank=1, energy=0.99).rank == 1
    assert truncate(factors, rank=9, energy=0.6).rank == 2


@given(one(), st.integers(0, 12))
def test_truncating_twice_changes_nothing_more(factors, rank):
    once = truncate(factors, rank)
    twice = truncate(once, rank)
    assert twice.rank == once.rank
    _assert_close(_dense(twice), _dense(once))


@given(one())
def test_recompress_keeps_the_product_in_as_few_balanced_directions_as_it_has(factors):
    small = recompress(factors)
    _assert_close(_dense(small), _dense(factors))
    assert small.rank == np.linalg.matrix_rank(_dense(factors))
    _assert_close(small.a @ small.a.T, small.b.T @ small.b, scale=1)


@given(one())
def test_svd_is_that_of_the_product(factors):
    u, sigma, vt = svd(factors)
    _assert_close((u * sigma) @ vt, _dense(factors))
    _assert_close(u.T @ u, np.eye(len(sigma)))
    _assert_close(vt @ vt.T, np.eye(len(sigma)))
    expected = np.linalg.svd(_dense(factors), compute_uv=False)[: len(sigma)]
    np.testing.assert_allclose(spectrum(factors), expected, rtol=CLOSE, atol=1e-12)


@given(several(2))
def test_inner_and_norm_are_those_of_the_products(pair):
    left, right = map(_dense, pair)
    scale = np.linalg.norm(left) * np.linalg.norm(right)
    assert inner(*pair) == pytest.approx(np.sum(left * right), rel=CLOSE, abs=CLOSE * scale)
    assert norm(pair[0]) == pytest.approx(np.linalg.norm(left), rel=CLOSE)


def test_the_norm_of_a_small_difference_of_large_terms_keeps_its_digits():
    large, small = _random(1, 60, 50, 4), _random(2, 60, 50, 4)
    difference = stack([(1.0, large), (-1.0, large), (1e-9, small)])
    expected = 1e-9 * np.linalg.norm(_dense(small))
    assert norm(difference) == pytest.approx(expected, rel=1e-5)
    assert abs(inner(difference, difference)) ** 0.5 != pytest.approx(expected, rel=0.5)


def _regauge(factors, seed):
    """(B Q, Q^-1 A) for a Q of condition 4."""
    rng, r = np.random.default_rng(seed), factors.rank
    left, right = (np.linalg.qr(rng.standard_normal((r, r)))[0] for _ in range(2))
    scale = np.geomspace(0.5, 2, r)
    return Factors((right.T / scale) @ left.T @ factors.a, factors.b @ (left * scale) @ right)


@given(one().map(lambda f: f.astype("f8")), st.integers(0, 2**32), st.integers(0, 12))
def test_no_result_depends_on_the_gauge(factors, seed, rank):
    sigma = np.append(spectrum(factors), 0)
    assume(not 0 < rank < len(sigma) or sigma[rank - 1] > 1.01 * sigma[rank])
    other = _regauge(factors, seed)
    assert factors.rank == 0 or not np.allclose(other.a, factors.a)
    _assert_close(_dense(truncate(other, rank)), _dense(truncate(factors, rank)), scale=sigma[0])
    assert norm(other) == pytest.approx(norm(factors), rel=CLOSE)
    assert inner(other, factors) == pytest.approx(norm(factors) ** 2, rel=CLOSE)


@pytest.mark.parametrize(
    ("factors", "rank"),
    [
        (_random(0, 5, 5, 5), 5),
        (_random(0, 4, 3, 9), 3),
        (_random(0, 4, 3, 0), 0),
        (_random(0, 4, 3, 1), 1),
        (Factors(np.zeros((2, 3)), _random(0, 4, 3, 2).b), 0),
        (Factors(np.ones((3, 6)), np.ones((7, 3))), 1),
    ],
    ids=["square", "rank above both sizes", "rank 0", "rank 1", "zero product", "repeated direction"],
)
def test_corner_shapes(factors, rank):
    assert recompress(factors).rank == len(spectrum(factors)) == rank
    assert recompress(factors).shape == factors.shape
    assert norm(factors) == pytest.approx(np.linalg.norm(_dense(factors)))


def _peak(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_truncation_never_forms_the_dense_product():
    d = k = 4096
    factors = _random(0, d, k, 132, "f4")
    assert _peak(lambda: truncate(factors, 32)) < d * k * np.dtype("f4").itemsize
    assert _peak(lambda: _dense(factors)) > d * k * np.dtype("f8").itemsize
