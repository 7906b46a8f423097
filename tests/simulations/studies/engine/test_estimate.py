"""Intervals over seeds against scipy's own tests."""

import numpy as np
import pytest
from scipy import stats

from simulations.studies.engine.estimate import difference, estimate, median

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


def test_a_median_and_its_interval_are_not_moved_by_slow_repetitions():
    values = list(np.random.default_rng(0).normal(1, 0.01, 30))
    found, spoilt = median(values), median([*values[:27], 9.0, 9.0, 9.0])
    assert found.low < np.median(values) < found.high
    assert found.high - found.low < 0.02
    assert spoilt.high < 1.05
    assert estimate([*values[:27], 9.0, 9.0, 9.0]).high > 2  # control


def test_the_interval_of_a_median_covers_it_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(0, 1, (2000, 30))
    covered = [found.low <= 0 <= found.high for found in map(median, draws.tolist())]
    assert 0.94 <= np.mean(covered) <= 0.99
