from dataclasses import replace

import numpy as np
import pytest

from common.adapters import lowrank
from common.adapters.adapter import Adapter
from common.protocol.assignment import RankPattern
from server.algorithms import WeightedUpdate
from tests.helpers.server import oracle
from tests.helpers.server.oracle import SHAPES, dense_aggregation_error, make, product, send, size

RANKS = (1, 4, 16)


def one_round(algorithm, before, ranks):
    """Return what clients of these ranks sent, with the shares by norm, and the state after the round."""
    sent = send(algorithm, before, ranks)
    norms = [size(product(update.modules)) for update in sent]
    weighed = [replace(update, share=norm / sum(norms)) for update, norm in zip(sent, norms, strict=True)]
    return weighed, oracle.reduce(algorithm, before, weighed)


@pytest.fixture
def algorithm():
    return make("hetlora", RANKS)


def padded(matrix, shape):
    return np.pad(matrix.astype("f8"), [(0, shape[0] - matrix.shape[0]), (0, shape[1] - matrix.shape[1])])


@pytest.mark.parametrize("ranks", [RANKS, (16, 16, 4), (1, 1, 16)])
def test_padded_factors_are_averaged_by_the_norm_of_each_update(algorithm, ranks):
    sent, after = one_round(algorithm, algorithm.initial(SHAPES), ranks)
    shares = np.array([update.share for update in sent])
    assert np.abs(shares - 1 / 3).max() > 0.01
    for name, factors in algorithm.broadcast_update(after).items():
        a = sum(p * padded(u.modules[name].a, factors.a.shape) for p, u in zip(shares, sent, strict=True))
        b = sum(p * padded(u.modules[name].b, factors.b.shape) for p, u in zip(shares, sent, strict=True))
        assert np.allclose(factors.a, a, rtol=1e-5, atol=1e-6)
        assert np.allclose(factors.b, b, rtol=1e-5, atol=1e-6)


def test_a_client_gets_its_first_directions(algorithm):
    _, state = one_round(algorithm, algorithm.initial(SHAPES), RANKS)
    for rank in RANKS:
        assignment = algorithm.assign(state, "ada", RankPattern(rank))
        assert (dict(assignment.frozen), assignment.trains) == ({}, "both")
        for name, factors in assignment.start.items():
            whole = algorithm.broadcast_update(state)[name]
            assert np.array_equal(factors.a, whole.a[:rank])
            assert np.array_equal(factors.b, whole.b[:, :rank])


def test_the_padding_shows_in_the_aggregation_error(algorithm):
    before = algorithm.initial(SHAPES)
    sent, after = one_round(algorithm, before, RANKS)
    assert dense_aggregation_error(algorithm, before, after, sent) > 0.1


def test_directions_that_nobody_trained_stay_alive(algorithm):
    before = algorithm.initial(SHAPES)
    _, after = one_round(algorithm, before, (1, 4))
    for name, factors in algorithm.broadcast_update(after).items():
        old = algorithm.broadcast_update(before)[name]
        assert np.array_equal(factors.a[4:], old.a[4:])
        assert factors.a.any(axis=1).all()
        assert not np.allclose(factors.a[:4], old.a[:4])


def test_directions_of_a_client_that_moved_nothing_stay_alive(algorithm):
    before = algorithm.initial(SHAPES)
    idle = WeightedUpdate(0.0, 16, algorithm.assign(before, "ada", RankPattern(16)).start)
    (moved,) = send(algorithm, before, (4,), (1.0,))
    after = algorithm.reduce(before, [idle, moved.weighted])
    assert all(factors.a.any(axis=1).all() for factors in algorithm.broadcast_update(after).values())


def test_directions_that_come_back_learn_again(algorithm):
    _, state = one_round(algorithm, algorithm.initial(SHAPES), (1, 1))
    _, state = one_round(algorithm, state, (16, 1))
    assert lowrank.spectrum(algorithm.broadcast_update(state)["square"]).size == 16


def test_if_nobody_moved_anything_all_stays_as_it_was(algorithm):
    before = algorithm.initial(SHAPES)
    idle = [WeightedUpdate(0.5, rank, algorithm.assign(before, "ada", RankPattern(rank)).start) for rank in (16, 4)]
    after = algorithm.broadcast_update(algorithm.reduce(before, idle))
    assert not any(factors.b.any() for factors in after.values())
    assert np.array_equal(after["square"].a[:4], algorithm.broadcast_update(before)["square"].a[:4])
    assert isinstance(after, Adapter)
