"""The norms of the study's table, on a weight and an update whose directions are known."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from simulations.studies.claims.amplification import AT_RANDOM, CHANCE, CONTROL, OF_UPDATE, OF_WEIGHT, _norms

D, R = 48, 4


def test_only_in_the_weight_itself_are_directions_of_an_update_along_it_more_than_random_ones():
    weight = np.random.default_rng(0).standard_normal((D, D))
    u, sigma, vt = np.linalg.svd(weight)
    along = Adapter({"query": Factors(vt[:R], u[:, :R])})
    norms = _norms(along, {"query": weight}, R)
    assert norms[OF_UPDATE] == pytest.approx(norms[OF_WEIGHT]) == pytest.approx(np.linalg.norm(sigma[:R]))
    assert norms[OF_UPDATE] > 4 * norms[AT_RANDOM]
    assert norms[CONTROL] == pytest.approx(norms[CHANCE], rel=0.15) == pytest.approx(R, rel=0.15)
    assert norms["norm of dW"] == pytest.approx(R**0.5)
