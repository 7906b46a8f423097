import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError
from common.protocol.assignment import RankPattern
from server.algorithms import WeightedUpdate
from tests.helpers.server import oracle
from tests.helpers.server.exchange import dense
from tests.helpers.server.oracle import SHAPES, dense_aggregation_error, make, send

SHARES = (0.5, 0.2, 0.3)


def one_round(shares=SHARES, **options):
    algorithm = make("fedit", (4,), **options)
    before = algorithm.initial(SHAPES)
    sent = send(algorithm, before, (4,) * len(shares), shares)
    return algorithm, before, sent, oracle.reduce(algorithm, before, sent)


def test_each_factor_is_the_weighted_mean():
    algorithm, _, sent, after = one_round()
    for name, factors in algorithm.broadcast_update(after).items():
        a = np.sum([u.share * u.modules[name].a.astype("f8") for u in sent], axis=0)
        b = np.sum([u.share * u.modules[name].b.astype("f8") for u in sent], axis=0)
        assert np.allclose(factors.a, a, rtol=1e-6, atol=1e-7)
        assert np.allclose(factors.b, b, rtol=1e-6, atol=1e-7)


def test_the_error_is_the_covariance_of_the_factors():
    algorithm, _, sent, after = one_round()
    for name, mean in algorithm.total_update(after).items():
        pairs = [(u.share, u.modules[name].astype("f8")) for u in sent]
        error = sum(p * (f.b - mean.b) @ (f.a - mean.a) for p, f in pairs)
        truth = sum(p * dense(f) for p, f in pairs)
        assert np.linalg.norm(error) > 0.1 * np.linalg.norm(truth)
        assert np.allclose(truth - dense(mean), error, atol=1e-5)


def test_the_inexact_mean_shows_in_the_aggregation_error():
    algorithm, before, sent, after = one_round()
    assert dense_aggregation_error(algorithm, before, after, sent) > 0.1
    algorithm, before, sent, after = one_round((1.0,))
    assert dense_aggregation_error(algorithm, before, after, sent) <= 1e-6


def test_a_round_goes_on_from_the_means():
    algorithm, before, _, after = one_round(alpha=8.0)
    for state in (before, after):
        assignment = algorithm.assign(state, "ada", RankPattern(4))
        assert (dict(assignment.frozen), assignment.trains, assignment.scaling) == ({}, "both", 2.0)
        assert assignment.start is algorithm.broadcast_update(state)


def test_the_first_a_is_the_papers():
    algorithm = make("fedit", (64,), seed=1)
    first = algorithm.initial({"one": (64, 400), "two": (64, 400)}).parts["global"]
    assert all(np.std(f.a) == pytest.approx(1 / 20, rel=0.03) and not f.b.any() for f in first.values())
    assert not np.array_equal(first["one"].a, first["two"].a)
    other = make("fedit", (64,), seed=2).initial({"one": (64, 400)}).parts["global"]
    assert not np.array_equal(first["one"].a, other["one"].a)


def test_mixed_ranks_are_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r'fedit needs one rank, got \[clients\] ranks \[2, 4\]; use "increments"'):
        make("fedit", (4, 2, 4))
    make("fedit", (4, 4))


def test_sums_are_made_in_float64():
    """A thousand equal updates, whose sum in float32 would drift."""
    algorithm = make("fedit", (1,))
    state = algorithm.initial({"q": (1, 1)})
    third = Adapter({"q": Factors(np.float32([[1 / 3]]), np.float32([[1 / 3]]))})
    after = algorithm.reduce(state, [WeightedUpdate(1e-3, 1, third)] * 1000)
    assert algorithm.broadcast_update(after)["q"].a == third["q"].a
    drifted = np.float32(0)
    for _ in range(1000):
        drifted += np.float32(1e-3) * np.float32(1 / 3)
    assert drifted != np.float32(1 / 3)
