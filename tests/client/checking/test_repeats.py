"""Rows that are there twice."""

import numpy as np

from client.checking.repeats import Repeats, find_repeats
from client.data.tokens import Example
from client.objectives.preference import Pair


def row(*ids, target=0):
    return Example(np.array(ids, np.int32), target, False)


def test_repeated_disputed_and_known_rows_are_counted():
    trained = [row(1, 2), row(1, 2), row(3, target=0), row(3, target=1), row(4)]
    assert find_repeats(trained, [row(4), row(5)]) == Repeats(again=2, disputed=2, known=1)


def test_different_rows_are_none():
    assert find_repeats([row(1, 2), row(12), row(1)], [row(2)]) == Repeats(0, 0, 0)


def test_a_pair_is_compared_whole():
    first, other = Pair(row(1), row(2)), Pair(row(1), row(3))
    assert find_repeats([first, other, first], []).again == 1
    assert find_repeats([first, other], []).again == 0
