"""Stable and effective rank where they are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulations.studies.measures.ranks import effective_rank, stable_rank

RANKS = [stable_rank, effective_rank]


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("q", [1, 5, 64])
def test_equal_singular_values_count_each(rank, q):
    assert rank(np.full(q, 0.3)) == pytest.approx(q)


@pytest.mark.parametrize("rank", RANKS)
def test_zeros_do_not_count(rank):
    assert rank(np.array([2.0, 2.0, 0.0])) == pytest.approx(2)
    assert rank(np.zeros(3)) == rank(np.zeros(0)) == 0


@pytest.mark.parametrize("rank", RANKS)
@given(arrays("f8", st.integers(1, 30), elements=st.floats(1e-3, 1e3)))
def test_it_lies_between_1_and_the_number_and_knows_no_unit(rank, sigma):
    sigma = np.sort(sigma)[::-1]
    assert 1 - 1e-9 <= rank(sigma) <= len(sigma) + 1e-9
    assert rank(7 * sigma) == pytest.approx(rank(sigma))


def test_one_strong_direction_is_nearly_alone():
    sigma = np.array([10.0, 0.1, 0.1])
    assert stable_rank(sigma) < 1.001
    assert effective_rank(sigma) < 1.15
