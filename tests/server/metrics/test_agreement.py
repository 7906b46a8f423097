"""The drift gauge against dense matrices, and for gradients of nodes with all labels and with one each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.gradient import compress
from common.protocol.assignment import RankPattern
from common.seeding import rng
from server.algorithms import WeightedUpdate
from server.metrics.exactness import agreement, measure_exactness
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.exchange import dense
from tests.helpers.server.oracle import make

CLASSES, FEATURES, NODES, ROWS = 8, 24, 8, 64
RANK = 6


# --- the formula ---


def made(shape, rank, seed):
    return random_adapter({"one": (*shape, rank), "two": (3, 4, rank)}, seed, np.float64)


def moved(update):
    """Return the dense change of an update, all modules in one vector."""
    return np.concatenate(
        [(dense(f) - (dense(update.start[n]) if n in update.start else 0)).ravel() for n, f in update.modules.items()]
    )


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8)),
    st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 1), st.floats(0, 3)), min_size=1, max_size=5),
    st.integers(0, 2),
)
def test_it_is_that_of_dense_matrices(shape, nodes, start_rank):
    total, updates = sum(weight for _, weight, _ in nodes), []
    for number, (rank, weight, noise) in enumerate(nodes):
        own, start = made(shape, rank, number), made(shape, start_rank, 50 + number)
        updates.append(WeightedUpdate(weight / total, rank, own, start, noise=noise))
    moves, shares = [moved(u) for u in updates], [u.share for u in updates]
    together = np.sum([p * move for p, move in zip(shares, moves, strict=True)], axis=0)
    above = together @ together - sum(u.share**2 * u.noise for u in updates)
    below = sum(u.share * (move @ move - u.noise) for u, move in zip(updates, moves, strict=True))
    if below <= 0:
        assert agreement(updates) is None
    else:
        assert agreement(updates) == pytest.approx(np.clip(above / below, 0, 1), rel=1e-9, abs=1e-9)


def single(row, column, size=1.0):
    """Make an update that is one number at this place."""
    a, b = np.zeros((1, 5)), np.zeros((6, 1))
    a[0, column], b[row, 0] = 1.0, size
    return Adapter({"q": Factors(a, b)})


@pytest.mark.parametrize(
    ("nodes", "reads"),
    [
        ([single(0, 0)] * 4, 1.0),
        ([single(0, 0), single(0, 0, -1.0)], 0.0),
        ([single(i, i) for i in range(4)], 1 / 4),
        ([single(2, 1)], 1.0),
        ([single(0, 0, 0.0)] * 4, None),
    ],
    ids=["alike", "opposite", "apart", "alone", "nothing"],
)
def test_it_is_1_for_equal_updates_and_1_in_k_for_orthogonal_ones(nodes, reads):
    assert agreement([WeightedUpdate(1 / len(nodes), 1, own) for own in nodes]) == (reads and pytest.approx(reads))


def test_replies_that_are_no_more_than_noise_have_none():
    noisy = [WeightedUpdate(0.5, 1, single(i, i), noise=1.0) for i in range(2)]
    assert agreement(noisy) is None
    assert agreement([replace(update, noise=0.5) for update in noisy]) == pytest.approx(1 / 2)  # control


# --- gradients of a softmax regression ---


def rows_of(labels, node):
    """Features around the mean of each row's class."""
    means = rng("means").standard_normal((CLASSES, FEATURES))
    return means[labels] + 2.0 * rng("rows", node).standard_normal((len(labels), FEATURES))


def loss_gradient(weights, x, labels):
    """(CLASSES, FEATURES), of the mean loss."""
    scores = x @ weights.T
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    return (odds - np.eye(CLASSES)[labels]).T @ x / len(labels)


def reply(order, node, labels):
    """Return the gradient by the shared factors, and its noise by the two halves of the rows."""
    start, x = order.start["head"].astype("f8"), rows_of(labels, node)
    halves = []
    for part in (slice(0, None, 2), slice(1, None, 2)):
        whole = loss_gradient(start.b @ start.a, x[part], labels[part])
        halves.append({"b/head": whole @ start.a.T, "a/head": (start.b.T @ whole).T})
    mean = {name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}
    noise = sum(np.sum((halves[0][name] - halves[1][name]) ** 2) / 4 for name in mean)
    return Adapter({name: compress(g, order.reply_rank) for name, g in mean.items()}), float(noise)


def measured(skewed, noisy=True):
    """Return what measures the exactness of the second round, in which B is no longer 0."""
    algorithm = make("fedsgd", (RANK,), weights="uniform")
    state = algorithm.initial({"head": (CLASSES, FEATURES)})
    for _ in range(2):
        updates = []
        for node in range(NODES):
            draws = rng("labels", state.round, node).integers(0, CLASSES, ROWS)
            order = algorithm.assign(state, str(node), RankPattern(RANK))
            modules, noise = reply(order, (state.round, node), np.full(ROWS, node) if skewed else draws)
            updates.append(WeightedUpdate(1 / NODES, RANK, modules, noise=noise if noisy else 0.0))
        before, state = state, algorithm.reduce(state, updates)
    return algorithm, before, state, updates


def test_gradients_of_nodes_with_all_labels_agree_and_of_nodes_with_one_each_do_not():
    assert measure_exactness(*measured(skewed=False)).agreement > 0.9
    assert measure_exactness(*measured(skewed=True)).agreement < 0.5


def test_without_the_correction_their_noise_reads_as_skew():
    assert measure_exactness(*measured(skewed=False, noisy=False)).agreement < 0.8


def test_the_aggregation_error_of_a_step_along_the_sum_is_that_of_the_sum():
    algorithm, before, after, updates = measured(skewed=True)
    assert measure_exactness(algorithm, before, after, updates).aggregation_error < 1e-12
    wrong = [replace(updates[0], share=updates[0].share * 1.01), *updates[1:]]
    assert measure_exactness(algorithm, before, after, wrong).aggregation_error > 1e-3


def test_the_aggregation_error_is_of_the_replies_as_they_were_decoded():
    """One flipped sign in one of them shows."""
    algorithm, before, after, (first, *others) = measured(skewed=True)
    b = np.array(first.modules["b/head"].b)
    b[0, 0] *= -1
    spoilt = {**first.modules, "b/head": Factors(first.modules["b/head"].a, b)}
    exact = measure_exactness(algorithm, before, after, [replace(first, modules=Adapter(spoilt)), *others])
    assert exact.aggregation_error > 1e-6
