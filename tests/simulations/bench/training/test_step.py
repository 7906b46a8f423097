import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from simulations.bench.measure import GateError
from simulations.bench.training import step
from simulations.bench.training.bases import RANK, assignment, attach
from simulations.bench.training.peft_engine import peft_engine
from simulations.bench.training.step import TOLERANCE, compare, distance, same_update
from tests.helpers.simulations.tiny_cases import KINDS, tiny_case


def starts(case):
    shapes = attach(case.base())[1].shapes
    return assignment(shapes), assignment(shapes, draw=1)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_train_the_same_update(kind):
    case = tiny_case(kind)
    assert "within" in same_update(case.engine(), peft_engine(case), *starts(case))


@pytest.mark.parametrize("change", [{"rate": 3.01e-3}, {"steps": 3}, {"batches": 1}])
def test_another_training_is_refused(change):
    ours, theirs = tiny_case("llama"), tiny_case("llama", **change)
    with pytest.raises(GateError, match="dW of both sides"):
        same_update(ours.engine(), peft_engine(theirs), *starts(ours))


def test_a_gate_that_sees_no_difference_is_refused():
    case = tiny_case("bert")
    start = starts(case)[0]
    with pytest.raises(GateError, match="dW of both sides"):
        same_update(case.engine(), peft_engine(case), start, start)


def test_a_call_starts_anew():
    case = tiny_case("bert")
    start, theirs = starts(case)[0], peft_engine(case)
    assert distance(theirs(start), theirs(start)) < TOLERANCE


def test_a_distance_is_relative_and_that_of_the_products():
    one = Adapter({"m": Factors(np.ones((1, 2)), np.ones((3, 1)))})
    other = Adapter({"m": Factors(2 * np.ones((1, 2)), np.ones((3, 1)))})
    turned = Adapter({"m": Factors(-np.ones((1, 2)), -np.ones((3, 1)))})
    assert distance(one, other) == pytest.approx(0.5)
    assert distance(one, turned) == pytest.approx(0)


def test_a_start_changes_nothing_and_the_branch_does():
    shapes = {"m": (6, 40), "narrow": (3, 40)}
    start = assignment(shapes, frozen=32)
    assert [f.rank for f in start.start.values()] == [6, 3]
    assert not any(f.b.any() for f in start.start.values())
    assert all(f.b.any() for f in start.frozen.values())
    assert not assignment(shapes).frozen
    assert assignment({"m": (64, 64)}, frozen=32).start.rank == RANK


@pytest.mark.parametrize("kind", ["bert", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_comparison_has_every_figure_and_names_its_gate(kind, monkeypatch):
    monkeypatch.setattr(step, "PROCESSES", 1)
    rows = compare(tiny_case(kind))
    names = ["step", "peak of memory", "peak of tensors", "step with a global branch of rank 32"]
    assert [row.figure for row in rows] == [f"{kind}: {name}" for name in names]
    assert [row.at_most for row in rows] == [1.05, 1.0, 1.0, None]
    assert all("dW of both sides" in row.gate for row in rows[:3])
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
