"""The verdict on two ranks and two seeds, and the maps that are compared."""

import pytest

from common.adapters.adapter import Adapter
from common.errors import RunError
from simulations.studies.claims.subspace import _by_chance, _check, _of_seeds, _verdict
from simulations.studies.engine.estimate import estimate
from tests.helpers.common.models import random_adapter

SHAPES = {f"layer.{n}.{role}": (70, 66) for n in range(2) for role in ("query", "value")}


@pytest.mark.parametrize(
    ("ranks", "seeds", "held"),
    [
        ([0.6, 0.7], [0.3, 0.1], True),
        ([0.6, 0.4], [0.3, 0.1], None),
        ([0.6, 0.7], [0.3, 0.001], None),
        ([0.4, 0.3], [0.3, 0.1], False),
        ([0.6, 0.7], [], None),
        ([0.4, 0.3], [], False),
    ],
)
def test_it_held_where_ranks_share_their_top_and_seeds_more_than_chance(ranks, seeds, held):
    assert _verdict([estimate([each] * 3) for each in ranks], seeds, 0.002) is held


def test_layers_that_differ_too_much_leave_it_open():
    wide, clear = estimate([0.3, 0.95, 0.7]), estimate([0.7, 0.7, 0.7])
    assert _verdict([wide, clear], [0.3], 0.002) is None
    assert _verdict([clear, clear], [0.3], 0.002) is True  # control


def test_chance_is_measured_where_a_module_is_smaller_than_the_rank():
    """As Wv is with grouped queries: its rank is then the module's."""
    both = {**random_adapter({"q": (40, 40)}, (32,)), **random_adapter({"v": (16, 40)}, (16,))}
    assert _by_chance(Adapter(both)).shape == (8, 16)


def test_an_update_with_too_few_directions_is_told_with_the_remedy():
    _check(random_adapter(SHAPES, (8,)))  # control
    with pytest.raises(RunError, match=r"moved it in 2 directions, and study subspace compares 8; more rounds"):
        _check(random_adapter(SHAPES, (2,)))


def test_two_seeds_are_compared_on_both_sides_of_both_projections():
    updates = [random_adapter(SHAPES, (64,), seed) for seed in (1, 2)]
    maps = _of_seeds(updates)
    assert [*maps] == [f"W{role}, two seeds, {side}" for role in "qv" for side in ("inputs", "outputs")]
    assert all(values.shape == (8, 64) for values in maps.values())
    assert all(values[7, 7] < 0.3 for values in maps.values())  # they are random
    assert all(values[7, 7] == pytest.approx(1) for values in _of_seeds([updates[0]] * 2).values())  # control
    assert not _of_seeds(updates[:1])
