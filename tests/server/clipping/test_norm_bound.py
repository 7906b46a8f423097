"""What an order allows holds for PyTorch's own AdamW on any gradients, is nearly attained, and clips no honest node."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.change import change_norm
from common.protocol.assignment import Assignment, Training
from server.algorithms.weighting import ClientUpdate
from server.clipping.clip import NormBound
from server.clipping.norm_bound import BETA1, BETA2, OrderBound, bounds_by_replies, largest_move, largest_step
from tests.helpers.client.training import bench
from tests.helpers.common.buffers import random_adapter

ROUNDING = 1e-5


def moved(gradients, rates, skipped=()):
    """Return the largest move of a coordinate by torch's AdamW on these gradients, which skips some of its steps."""
    parameter = torch.zeros(gradients.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], weight_decay=0.0)
    assert optimizer.defaults["betas"] == (BETA1, BETA2)
    path = [0.0]
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        if step not in skipped:
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
            optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.abs(path[-1]).max(), np.abs(path[-1] - path[-2]).max()


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 60, 300])
def test_the_last_step_is_attained_by_gradients_that_grow_as_they_are_forgotten(steps):
    ratio = BETA1 / BETA2
    gradients = 1e3 * np.array([[ratio ** (steps - i)] for i in range(1, steps + 1)])
    _, last = moved(gradients, [1.0] * steps)
    assert largest_step(steps) * (1 - 1e-3) < last <= largest_step(steps) * (1 + ROUNDING)


def test_steps_allow_ever_more_up_to_a_limit():
    """So a step that a scaler skips, which the optimizer does not count, allows no more either."""
    steps = [largest_step(step) for step in range(1, 3000)]
    assert steps[0] == pytest.approx(1)
    assert all(before < after for before, after in pairwise(steps[:100]))
    assert max(steps) < 7.3


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([1e-6, 1e-3, 0.1, 3.0]), min_size=1, max_size=25),
    st.sampled_from([0.0, 0.3, 3.0, 12.0]),
    st.sets(st.integers(0, 24)),
)
def test_no_gradients_move_further_than_the_order_allows(seed, rates, spread, skipped):
    """`spread` is that of the gradients' orders of magnitude; some steps may be skipped."""
    random = np.random.default_rng(seed)
    sizes = 10.0 ** (spread * random.standard_normal((len(rates), 20)))
    gradients = sizes * random.choice([-1.0, 1.0, 1.0], (len(rates), 20))
    assert moved(np.clip(gradients, -1e30, 1e30), rates, skipped)[0] <= largest_move(rates) * (1 + ROUNDING)


# --- honest nodes: real training is never clipped, whatever it is asked ---

SETTINGS = {
    "plain": {},
    "unclipped": {"clip": 0.0},
    "dropout": {"dropout": 0.3},
    "accumulated": {"accumulate": 3},
    "one step": {"learning_rates": (0.1,)},
    "tiny rates": {"learning_rates": (1e-9,) * 4},
    "huge rates": {"learning_rates": (1.0, 5.0, 0.5)},
}


def as_update(order, adapter):
    return ClientUpdate("ada", order.start.rank, 1, 1, adapter, order, change_norm(adapter, order.start))


@pytest.fixture(scope="module")
def where():
    return bench("llama", "causal-lm")


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize(("rank", "scaling"), [(1, 16.0), (8, 0.25)])
@pytest.mark.parametrize(("trains", "b", "apart"), [("both", False, False), ("b", False, False), ("both", True, True)])
def test_no_honest_reply_is_clipped(where, case, rank, scaling, trains, b, apart):
    order = where.start(rank=rank, scaling=scaling, trains=trains, b=b)
    training = (
        Training((0.02,) * 4, batch=4)
        if case not in SETTINGS
        else replace(Training((0.02,) * 4, batch=4), **SETTINGS[case])
    )
    update = as_update(order, where.train(order, training).adapter)
    (clipped,) = NormBound("auto", apart).clip([update], training.learning_rates, [])
    assert clipped is update
    slower = [rate / 200 for rate in training.learning_rates]
    assert NormBound("auto", apart).clip([update], slower, [])[0].clip < 1 or case == "tiny rates"  # control


def test_the_bound_is_near_what_is_possible():
    """One step of B along A0's first direction attains it, but for the tolerance."""
    start = Adapter({"q": Factors(np.eye(1, 6), np.zeros((5, 1)))})
    order = Assignment(Adapter(), start, "b", 2.0)
    most = change_norm({"q": Factors(start["q"].a, 2.0 * np.full((5, 1), 0.1))}, start)
    assert most <= OrderBound(order, [0.1]).norm <= 1.002 * most


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([0.25, 1.0, 8.0]), st.sampled_from(["both", "b", "a"]))
def test_moves_within_the_order_make_products_within_it(seed, rank, scaling, trains):
    """Factors at the edge of what each may move, from any start."""
    random, start = np.random.default_rng(seed), random_adapter({"q": (6, 5, rank), "v": (4, 8, rank)}, seed)
    bound = OrderBound(Assignment(Adapter(), start, trains, scaling), [0.1, 0.3])
    sent = {}
    for name, f in start.items():
        a, b = bound.moves(f)
        sides = [random.standard_normal(array.shape) for array in (f.a, f.b)]
        x, y = (side / np.linalg.norm(side) for side in sides)
        sent[name] = Factors(f.a + a * x, f.b + b * y)
        assert (a == 0, b == 0) == (trains == "b", trains == "a")
    assert change_norm(sent, start) <= bound.norm * (1 + 1e-6)


# --- the other replies ---


def test_a_median_needs_four_replies_and_looks_back():
    few, many = [1.0, 2.0, 100.0], [1.0, 2.0, 3.0, 100.0]
    assert bounds_by_replies(few, [1.0] * 50, gradient=False) == [np.inf] * 3
    assert bounds_by_replies(many, [], gradient=False) == [8.0 * 2.0] * 4
    assert bounds_by_replies(many, [0.5] * 5, gradient=False) == [8.0 * 0.5] * 4


def test_half_of_the_nodes_cannot_raise_it_nor_can_silent_ones_end_it():
    assert bounds_by_replies([1.0, 2.0, 1e30, 1e30], [], gradient=False)[0] == 16.0
    assert bounds_by_replies([1.0, 0.0, 0.0, 0.0], [], gradient=False)[0] == 8.0
    assert bounds_by_replies([0.0] * 4, [], gradient=False)[0] == np.inf


def test_a_gradient_is_bounded_by_the_others_where_they_are_few():
    assert bounds_by_replies([1.0, 1e30], [], gradient=True) == [8e30, 8.0]
    assert bounds_by_replies([1e30], [], gradient=True) == [np.inf]
    assert bounds_by_replies([0.0, 1.0], [], gradient=True) == [8.0, np.inf]


def test_a_number_is_the_bound_and_0_is_none():
    shapes = {"q": (6, 5, 2)}
    start = Adapter({n: Factors(f.a, 0 * f.b) for n, f in random_adapter(shapes, 0).items()})
    update = as_update(Assignment(Adapter(), start), random_adapter(shapes, 1))
    for number in (0.5 * update.norm, 1e-3):
        (clipped,) = NormBound(number, apart=False).clip([update], [0.1], [])
        assert change_norm(clipped.modules, start) == pytest.approx(number, rel=1e-6)
        assert clipped.clip == pytest.approx(number / update.norm)
    assert NormBound(2 * update.norm, apart=False).clip([update], [1e-9], [])[0] is update
    assert NormBound(0, apart=False).clip([update], [1e-9], []) == [update]
