"""Packed rows are what was packed."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.packed import PackedRows, pack
from client.data.tokens import IGNORE, Example
from client.objectives.preference import Pair


def example(ids, learned, cut=False):
    held = np.array(ids, np.int32)
    return Example(held, np.where(learned, held, np.int32(IGNORE)), cut)


def same(one: Example, other: Example) -> bool:
    targets = np.asarray(one.targets), np.asarray(other.targets)
    return (
        np.array_equal(one.ids, other.ids)
        and np.array_equal(*targets)
        and one.ids.dtype == other.ids.dtype == np.int32
        and targets[0].dtype == targets[1].dtype
        and one.cut == other.cut
    )


TOKENS = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(TOKENS, max_size=30), st.integers(1, 7), st.data())
def test_examples_come_back_as_they_were(rows, piece, data):
    made = [example(*zip(*row, strict=True), cut=len(row) > 9) for row in rows]
    packed = pack(made[begin : begin + piece] for begin in range(0, len(made), piece))
    assert len(packed) == len(made)
    assert all(map(same, packed, made))
    assert packed.lengths.tolist() == [len(row) for row in made]
    assert packed.truncated == sum(row.cut for row in made)
    if made:
        places = data.draw(st.lists(st.integers(0, len(made) - 1)))
        chosen = packed.chosen(np.array(places, np.intp))
        assert all(same(chosen[n], made[place]) for n, place in enumerate(places))


def test_a_slice_and_a_last_row_are_those_of_a_list():
    made = [example([n, n + 1], [False, True]) for n in range(10)]
    packed = pack([made])
    assert isinstance(packed[::3], PackedRows)
    assert all(map(same, packed[::3], made[::3])) and same(packed[-1], made[-1])
    with pytest.raises(IndexError):
        packed[10]


@pytest.mark.parametrize("targets", [3, 2.5, np.array([0.0, 1.0], np.float32), np.array([7, 8], np.int32), (1, 0)])
def test_other_targets_are_kept_as_they_are(targets):
    row = pack([[Example(np.array([7, 9], np.int32), targets, cut=True)]])[0]
    assert type(row.targets) is type(targets) and np.array_equal(row.targets, targets)
    assert row.ids.tolist() == [7, 9]


def test_pairs_come_back_as_pairs():
    made = [Pair(example([1, 2, 3], [0, 1, 1]), example([1, n], [0, 1], cut=True)) for n in range(5)]
    packed = pack([made[:2], made[2:]])
    assert all(same(a.chosen, b.chosen) and same(a.rejected, b.rejected) for a, b in zip(packed, made, strict=True))
    assert (packed.lengths.tolist(), packed.truncated) == ([3] * 5, 5)


def test_rows_of_another_kind_are_kept():
    @dataclass(frozen=True)
    class Longer(Example):
        weight: float = 1.0

    made = [Longer(np.array([1, 2], np.int32), 0, False, weight=0.5)]
    assert pack([made])[0] is made[0]


def test_no_rows_are_no_rows():
    assert (len(pack([])), len(pack([[], []])), pack([]).lengths.tolist()) == (0, 0, [])
