"""Terms of a client's gradient, and gradients in place of updates, against dense training in float64."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.model.lora import Branch
from client.training.mean_gradient import MeanGradient
from client.training.terms import TERMS, term_fault
from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment, Term, Training
from tests.helpers.client.dense import dense_gradient, dense_update
from tests.helpers.client.training import PLAIN, bench, largest_gap, same_bits
from tests.helpers.common.models import random_adapter

TASKS = [("bert", "classification"), ("llama", "causal-lm")]
STEPS = Training(learning_rates=(3e-2,) * 4, batch=4, clip=0.5)


def in_float64(bench):
    """Return the same bench with its base in float64, for the oracle."""
    return replace(bench, base=replace(bench.base, model=copy.deepcopy(bench.base.model).double()))


def shift(assignment, scale=1.0):
    """Return a control variate of the assignment's shapes."""
    drawn = random_adapter({name: f.shape for name, f in assignment.start.items()}, (assignment.start.rank,), 5)
    return Adapter({n: Factors(assignment.start[n].a, scale * f.b) for n, f in drawn.items()})


@pytest.mark.parametrize(("kind", "task"), TASKS)
@pytest.mark.parametrize("mu", [0.1, 5.0])
def test_the_proximal_term_is_that_of_fedprox(kind, task, mu):
    ours = bench(kind, task)
    plain = ours.start(scaling=2.0, frozen=2)
    prox = replace(plain, terms=(Term("proximal", {"mu": mu}),))
    assert largest_gap(ours.train(prox, STEPS).adapter, dense_update(in_float64(ours), prox, STEPS)) < 1e-4
    assert largest_gap(ours.train(plain, STEPS).adapter, dense_update(in_float64(ours), prox, STEPS)) > 1e-3  # control


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_the_control_variate_is_added_to_the_gradient_of_the_scaled_b(kind, task):
    ours = bench(kind, task)
    plain = ours.start(scaling=0.5, trains="b", b=False)
    corrected = replace(plain, terms=(Term("control-variate", adapter=shift(plain, 0.1)),))
    expected = dense_update(in_float64(ours), corrected, STEPS)
    assert largest_gap(ours.train(corrected, STEPS).adapter, expected) < 1e-4
    assert largest_gap(ours.train(plain, STEPS).adapter, expected) > 1e-3  # control
    assert same_bits(
        Adapter({n: Factors(f.a, np.zeros_like(f.b)) for n, f in ours.train(corrected, STEPS).adapter.items()}),
        Adapter({n: Factors(f.a, np.zeros_like(f.b)) for n, f in plain.start.items()}),
    )


def test_terms_add_up():
    ours = bench()
    plain = ours.start(trains="b")
    terms = Term("proximal", {"mu": 1.0}), Term("control-variate", adapter=shift(plain, 0.1))
    both = ours.train(replace(plain, terms=terms), STEPS).adapter
    assert largest_gap(both, dense_update(in_float64(ours), replace(plain, terms=terms), STEPS)) < 1e-4
    for alone in terms:
        assert largest_gap(both, ours.train(replace(plain, terms=(alone,)), STEPS).adapter) > 1e-4


def test_no_pull_and_no_shift_change_no_bit():
    ours = bench()
    plain = ours.start(trains="b")
    nothing = Term("proximal", {"mu": 0.0}), Term("control-variate", adapter=shift(plain, 0.0))
    assert same_bits(ours.train(replace(plain, terms=nothing)).adapter, ours.train(plain).adapter)


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_a_gradient_is_that_of_the_mean_loss_by_the_scaled_b(kind, task):
    ours = bench(kind, task)
    asked = replace(ours.start(scaling=4.0, trains="b", b=False, frozen=2), returns="gradient")
    gradient, expected = ours.train(asked, STEPS).adapter, dense_gradient(in_float64(ours), asked, STEPS)
    for name, factors in gradient.items():
        assert np.allclose(factors.b, expected[name], atol=1e-6, rtol=1e-3)
        assert factors.b.any()
        assert np.array_equal(factors.a, asked.start[name].a)
    assert largest_gap(gradient, ours.train(replace(asked, returns="update"), STEPS).adapter) > 1e-3  # control


def test_a_gradient_depends_on_no_rate_and_no_term():
    ours = bench()
    asked = replace(ours.start(trains="b"), returns="gradient")
    other = replace(asked, terms=(Term("control-variate", adapter=shift(asked)),))
    faster = replace(STEPS, learning_rates=(9.0,) * 4, clip=1e-9)
    assert same_bits(ours.train(asked, STEPS).adapter, ours.train(other, faster).adapter)


def test_each_phase_has_its_own_batches():
    ours = bench()
    asked = replace(ours.start(trains="b"), returns="gradient")
    first, second = (ours.train(asked, replace(PLAIN, phase=phase)).adapter for phase in (1, 2))
    assert not same_bits(first, second)
    assert same_bits(first, ours.train(asked, PLAIN).adapter)
    assert PLAIN.stream_key("clinic") == (PLAIN.seed, "clinic", PLAIN.round)


def test_an_unknown_term_is_named_and_so_are_the_known_ones():
    start = random_adapter({"q": (4, 6)}, (2,), 1)
    asked = Assignment(Adapter(), start, terms=(Term("proximal", {"mu": 0.1}), Term("control-variate", adapter=start)))
    assert term_fault(asked) is None
    text = term_fault(replace(asked, terms=(Term("momentum"),)))
    assert "'momentum'" in text
    assert all(name in text for name in TERMS)


@pytest.mark.parametrize("numbers", [{}, {"mu": float("nan")}, {"mu": 1}, {"mu": "0.1"}, {"mu": 0.1, "nu": 0.1}])
def test_the_numbers_of_a_term_are_checked_before_a_step(numbers):
    asked = Assignment(Adapter(), random_adapter({"q": (4, 6)}, (2,), 1), terms=(Term("proximal", numbers),))
    assert "'proximal' needs the numbers ['mu']" in term_fault(asked)


@pytest.mark.parametrize(("shapes", "rank"), [({"q": (4, 6)}, 1), ({"q": (5, 6)}, 2), ({"k": (4, 6)}, 2)])
def test_the_factors_of_a_term_are_those_of_the_start(shapes, rank):
    other = Term("control-variate", adapter=random_adapter(shapes, (rank,), 1))
    asked = Assignment(Adapter(), random_adapter({"q": (4, 6)}, (2,), 1), terms=(other,))
    assert "'control-variate' do not have the shapes" in term_fault(asked)


def test_a_float16_step_that_overflows_is_left_out_of_a_gradient():
    """The scale falls after it, as in training; without that, one overflow would be in every mean."""
    scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=2.0**16), None
    factor, mean = torch.nn.Parameter(torch.ones(2, 2)), MeanGradient()
    optimizer = torch.optim.SGD([factor])
    for size in (1.0, float("inf"), 3.0):
        scaler.scale((size * factor).sum()).backward()
        scaler.unscale_(optimizer)
        mean.add(scaler, [factor])
    (gradient,) = mean.as_factors({"q": Branch(factor, factor, 1.0)}).values()
    assert torch.equal(gradient.a, torch.full((2, 2), 2.0))
    assert scaler.get_scale() == 2.0**15
    assert torch.isnan(MeanGradient().as_factors({"q": Branch(factor, factor)})["q"].a).all()
