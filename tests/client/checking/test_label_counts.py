"""Tables of labels by group."""

import numpy as np

from client.checking.label_counts import Counts, count_labels, shortened, spread_of_labels
from client.data.tokens import Example


def rows(*targets):
    return [Example(np.array([1], np.int32), target, False) for target in targets]


def table(labels, groups):
    cells = tuple(tuple(label + group for group in range(groups)) for label in range(labels))
    return Counts(tuple(f"l{n}" for n in range(labels)), tuple(f"g{n}" for n in range(groups)), cells)


def test_each_label_is_counted_in_each_group():
    counts = count_labels({"a": rows(0, 1, 1), "b": rows(2)}, ("x", "y", "z"))
    assert counts == Counts(("x", "y", "z"), ("a", "b"), ((1, 0), (2, 0), (0, 1)))


def test_a_short_table_stays():
    assert shortened(table(5, 4), 4) == table(5, 4)


def test_a_long_one_keeps_its_sums():
    whole = table(77, 30)
    short = shortened(whole, 6)
    assert (len(short.rows), len(short.columns)) == (21, 6)
    assert short.columns[-1] == "25 others"
    assert "57 others" in short.rows
    assert sum(short.totals()) == sum(whole.totals())


def test_the_share_of_labels_that_a_group_has():
    assert spread_of_labels(Counts(("x", "y"), ("a", "b"), ((3, 0), (1, 5)))) == 0.75
