"""Subspace similarity against the paper's definition, on matrices that are written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.adapters.adapter import Factors
from simulations.studies.measures.subspaces import directions, expected_by_chance, similarity


def by_definition(u, v, i, j):
    return np.linalg.norm(u[:, :i].T @ v[:, :j], "fro") ** 2 / min(i, j)


def columns(seed, n, q):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, q)))[0]


@given(st.integers(0, 2**32), st.integers(4, 24), st.integers(1, 4), st.integers(1, 4))
def test_every_entry_is_that_of_the_definition(seed, n, p, q):
    u, v = columns(seed, n, p), columns(seed + 1, n, q)
    found = similarity(u, v)
    wanted = [[by_definition(u, v, i, j) for j in range(1, q + 1)] for i in range(1, p + 1)]
    assert found.shape == (p, q)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert (found >= -1e-12).all()
    assert (found <= 1 + 1e-12).all()


def test_a_span_in_the_other_is_1_and_an_orthogonal_one_0():
    u = columns(0, 12, 6)
    assert similarity(u[:, :2], u)[1, 5] == pytest.approx(1)
    assert similarity(u[:, :2], u[:, 2:]).max() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
@given(arrays("f8", (7, 3), elements=st.floats(-2, 2)), arrays("f8", (3, 9), elements=st.floats(-2, 2)))
def test_directions_are_those_of_the_dense_product(side, b, a):
    found = directions(Factors(a, b), side)
    u, sigma, vt = np.linalg.svd(b @ a)
    strong = int((sigma > 1e-3 * max(sigma[0], 1)).sum())
    dense = (u if side == "left" else vt.T)[:, :strong]
    assert np.allclose(np.linalg.norm(found.T @ dense, axis=0), 1, atol=1e-6)


def test_random_subspaces_are_as_similar_as_chance():
    found = [similarity(columns(2 * s, 64, 4), columns(2 * s + 1, 64, 8))[3, 7] for s in range(200)]
    assert np.mean(found) == pytest.approx(expected_by_chance(64, 4, 8), abs=0.01)
