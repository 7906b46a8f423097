"""Spread of lengths, and what a limit cuts."""

from itertools import pairwise

import numpy as np
import pytest

from client.checking.lengths import Bin, count_longer, limit_for, spread


def test_a_spread_has_the_quantiles_of_the_lengths():
    found = spread(np.arange(1, 101))
    assert (found.least, found.median, found.most95, found.most) == (1, 51, 96, 100)


def test_bins_cover_every_length_once():
    lengths = np.array([3, 3, 4, 90, 17])
    bins = spread(lengths).bins
    assert sum(each.rows for each in bins) == len(lengths)
    assert all(a.last + 1 == b.first for a, b in pairwise(bins))
    assert bins[0] == Bin(3, 13, 3)


def test_equal_lengths_have_one_bin():
    assert spread(np.array([7, 7])).bins == (Bin(7, 7, 2),)


@pytest.mark.parametrize(("share", "limit"), [(0.0, 100), (0.01, 99), (0.5, 50), (1.0, 1)])
def test_the_least_limit_for_a_share(share, limit):
    lengths = np.arange(1, 101)
    assert limit_for(lengths, share) == limit
    assert count_longer(lengths, limit) <= share * 100
    assert limit == 1 or count_longer(lengths, limit - 1) > share * 100
