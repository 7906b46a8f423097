from math import inf, nan

import pytest

from simulations.bench.measure import GateError, run_in_fresh_process
from simulations.bench.training.bases import RANK, attach
from simulations.bench.training.fine_tuning import adapters, whole_model
from simulations.bench.training.footprint import compare, learns
from tests.helpers.simulations.tiny_cases import tiny_case

FOUR_BYTES = 4


def moments(side, tensors):
    """Bytes of AdamW's state: two numbers for each that is trained, and a step count for each tensor."""
    return FOUR_BYTES * (2 * side.parameters + tensors)


@pytest.mark.parametrize("kind", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
def test_what_is_trained_held_and_stored(kind):
    case = tiny_case(kind, steps=3, batches=1)
    base, lora = attach(case.base())
    one, other = run_in_fresh_process(adapters, case), run_in_fresh_process(whole_model, case)
    assert one.parameters == sum(min(RANK, d, k) * (d + k) for d, k in lora.shapes.values())
    assert one.optimizer == moments(one, 2 * len(lora.shapes))
    parameters = list(base.model.parameters())
    assert other.parameters == sum(p.numel() for p in parameters)
    assert moments(other, 0) <= other.optimizer <= moments(other, len(parameters))
    for side in (one, other):
        assert 0 < side.sent - FOUR_BYTES * side.parameters < 0.1 * side.sent + 8192
        assert side.stored > 0 and learns(side.losses)


@pytest.mark.slow  # two processes' peaks are compared, which load can turn
def test_adapters_peak_below_the_whole_model():
    case = tiny_case("llama", steps=3, batches=1)
    one, other = (min(run_in_fresh_process(side, case).peak for _ in range(3)) for side in (adapters, whole_model))
    assert other - one > 0


@pytest.mark.parametrize("losses", [(1.0, 1.0), (1.0, 1.1), (1.0, nan), (inf, 1.0)])
def test_a_loss_that_does_not_fall_is_no_learning(losses):
    assert not learns(losses)
    assert learns((1.0, 0.9))  # control


@pytest.mark.slow
def test_a_side_that_does_not_learn_is_refused():
    case = tiny_case("llama", steps=3, batches=1, rate=0.0)
    with pytest.raises(GateError, match="loss falls"):
        compare(case)
