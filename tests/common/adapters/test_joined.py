"""Adapter arithmetic against dense matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.joined import weighted_sum
from tests.helpers.common.models import random_adapter

SHAPES = {"q": (6, 5), "v": (4, 7)}


def dense(adapter, name):
    factors = adapter[name].astype("f8") if name in adapter else None
    return np.zeros(SHAPES[name]) if factors is None else factors.b @ factors.a


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 6), st.sampled_from([("q", "v"), ("q",), ("v",)])), min_size=1),
    st.integers(0, 2**31),
)
def test_a_weighted_sum_is_that_of_the_dense_updates(drawn, seed):
    terms = [
        (weight, random_adapter({name: SHAPES[name] for name in names}, (rank,), seed + number))
        for number, (weight, rank, names) in enumerate(drawn)
    ]
    found = weighted_sum(terms)
    for name in found:
        wanted = sum(weight * dense(adapter, name) for weight, adapter in terms)
        np.testing.assert_allclose(dense(found, name), wanted, atol=1e-12 * max(1, np.abs(wanted).max()))


def test_an_adapter_less_itself_is_nothing_and_its_negation_undoes_it():
    own = random_adapter(SHAPES, (3,))
    both = weighted_sum([(1.0, own), (1.0, weighted_sum([(-1.0, own)]))])
    assert all(np.abs(dense(both, name)).max() < 1e-15 for name in SHAPES)
    assert np.abs(dense(weighted_sum([(1.0, own)]), "q")).max() > 0  # control


def test_adapters_of_other_shapes_are_not_added():
    other = Adapter({"q": Factors(np.zeros((1, 9)), np.zeros((6, 1)))})
    with pytest.raises(ValueError, match="dimension"):
        weighted_sum([(1.0, random_adapter(SHAPES, (2,))), (1.0, other)])
