"""Intervals over seeds against scipy's own tests."""

import numpy as np
import pytest
from scipy import stats

from simulations.studies.engine.estimate import difference, estimate

VALUES = [0.61, 0.64, 0.58, 0.66, 0.6]


def test_an_interval_is_that_of_students_t():
    found = estimate(VALUES)
    wanted = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(VALUES), wanted.low, wanted.high))


def test_a_difference_is_paired_by_seed():
    other = [value - 0.05 for value in VALUES]
    found = difference(VALUES, other)
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    assert estimate(VALUES).low < estimate(other).high  # control: apart they overlap


def test_one_seed_has_no_interval():
    found = estimate([0.5])
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert str(found) == "0.500"
