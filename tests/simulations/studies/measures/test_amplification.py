"""Amplification factors against the dense formula, and the control of random weights."""

import numpy as np
import pytest

from common.adapters.adapter import Factors
from simulations.studies.measures import amplification as measured


def draw(seed, d=24, k=18, r=3):
    draws = np.random.default_rng(seed)
    return Factors(draws.standard_normal((r, k)), draws.standard_normal((d, r))), draws.standard_normal((d, k)), draws


def test_it_is_the_dense_formula():
    update, weight, _ = draw(0)
    delta = update.b @ update.a
    u, _, vt = np.linalg.svd(delta)
    wanted = np.linalg.norm(delta) / np.linalg.norm(u[:, :3].T @ weight @ vt[:3].T)
    assert measured.amplification(update, weight, 3) == pytest.approx(wanted)


def test_a_weight_in_its_own_top_directions_keeps_its_largest_singular_values():
    _, weight, _ = draw(1)
    sigma = np.linalg.svd(weight, compute_uv=False)
    found = measured.projected_norm(weight, measured.top_directions(weight, 4))
    assert found == pytest.approx(np.linalg.norm(sigma[:4]))


def test_an_update_tells_nothing_of_a_weight_that_is_random():
    """The control of the paper's table: U and V of an update and random ones find as much of a random weight."""
    own, by_chance = [], []
    for seed in range(200):
        update, weight, draws = draw(seed)
        own.append(measured.projected_norm(weight, measured.update_directions(update, 3)))
        by_chance.append(measured.projected_norm(weight, measured.random_directions(weight.shape, 3, draws)))
    assert np.mean(own) == pytest.approx(np.mean(by_chance), rel=0.05)


def test_an_update_along_the_weight_is_not_taken_for_a_random_one():
    _, weight, _ = draw(2)
    u, sigma, vt = np.linalg.svd(weight, full_matrices=False)
    along = Factors(vt[:3], u[:, :3] * sigma[:3])
    assert measured.amplification(along, weight, 3) == pytest.approx(1)
