"""Sums by class add up for any split, travel without loss, and what no rows have as sums is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.codec import encode_adapter
from common.errors import CodecError
from common.heads.class_sums import ClassSums, pack_sums, packed_size, sum_rows, unpack_sums
from tests.helpers.common.buffers import random_adapter

C, H = 4, 6


def rows(count, seed=0):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, H)).astype("f4"), draw.integers(C, size=count)


def added(parts):
    return sum(parts[1:], parts[0])


@settings(deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=4), st.booleans(), st.integers(0, 9))
def test_the_sums_of_any_split_are_those_of_all_rows(count, cuts, gram, seed):
    features, labels = rows(count, seed)
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    parts = [sum_rows(features[a:b], labels[a:b], C, gram) for a, b in itertools.pairwise(edges)]
    whole, total = sum_rows(features, labels, C, gram), added(parts)
    assert np.allclose(total.classes, whole.classes, rtol=1e-12, atol=1e-12)
    assert total.gram is None if not gram else np.allclose(total.gram, whole.gram, rtol=1e-12, atol=1e-12)
    assert total.rows == count
    assert np.array_equal(total.counts, np.bincount(labels, minlength=C))


@pytest.mark.parametrize("gram", [True, False])
def test_they_travel_without_loss_and_with_the_size_that_is_stated(gram):
    sums = sum_rows(*rows(20), C, gram)
    buffer = pack_sums(sums)
    assert len(buffer) == packed_size(C, H, gram)
    back = unpack_sums(buffer, C, H, gram)
    assert back.classes.tobytes() == sums.classes.tobytes()
    assert (back.gram is None) == (not gram)
    if gram:
        assert np.array_equal(back.gram, np.triu(sums.gram) + np.triu(sums.gram, 1).T)
        assert len(buffer) < 8 * (C * (H + 1) + (H + 1) * (H + 2) / 2) + 500


def changed(classes=None, gram=None):
    sums = sum_rows(*rows(20), C, gram=True)
    return pack_sums(ClassSums(sums.classes if classes is None else classes, sums.gram if gram is None else gram))


def with_entry(which, place, value):
    sums = sum_rows(*rows(20), C, gram=True)
    array = getattr(sums, which).copy()
    array[place] = value
    return changed(**{which: array})


@pytest.mark.parametrize(
    "buffer",
    [
        with_entry("classes", (0, 0), np.nan),
        with_entry("classes", (0, 0), 1e9),
        with_entry("classes", (1, H), -1.0),
        with_entry("classes", (1, H), 1e6),
        with_entry("gram", (0, 0), -1.0),
        with_entry("gram", (H, H), 5.0),
        with_entry("gram", (2, H), 77.0),
        with_entry("gram", (2, 3), np.inf),
        pack_sums(sum_rows(*rows(20), C, gram=False)),
        pack_sums(sum_rows(*rows(20), C + 1, gram=True)),
        encode_adapter(random_adapter({"q": (3, 3, 1)})),
        b"",
    ],
)
def test_what_is_not_the_sums_of_any_rows_is_refused(buffer):
    with pytest.raises(CodecError):
        unpack_sums(buffer, C, H, gram=True)
    unpack_sums(changed(), C, H, gram=True)  # control


def test_sums_of_more_rows_than_are_allowed_are_scaled():
    sums = sum_rows(*rows(20), C, gram=True).scaled(0.25)
    assert sums.rows == 5
    assert sums.gram[-1, -1] == 5
