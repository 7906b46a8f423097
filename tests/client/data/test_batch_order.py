from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.batch_order import Indices, batches_by_length, bucketed_epochs
from common.seeding import rng

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300).map(np.array)


def epoch(lengths: Indices, batch: int, *key: str | int) -> list[Indices]:
    """Return the batches of one epoch."""
    pieces, seen = [], 0
    for piece in bucketed_epochs(lengths, batch, rng(*key)):
        pieces.append(piece)
        seen += len(piece)
        if seen >= len(lengths):
            break
    return pieces


def padding(lengths: Indices, pieces: list[Indices]) -> float:
    """Share of a padded epoch that is padding."""
    padded = sum(len(piece) * lengths[piece].max() for piece in pieces)
    return float(1 - lengths.sum() / padded)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 40), st.integers(0, 2**31))
def test_every_epoch_has_every_row_once(lengths: Indices, batch: int, seed: int) -> None:
    round_id = bucketed_epochs(lengths, batch, rng(seed))
    for _ in range(2):
        seen: list[int] = []
        while len(seen) < len(lengths):
            seen += next(round_id).tolist()
        assert sorted(seen) == list(range(len(lengths)))


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 40))
def test_no_batch_is_too_large_or_left_with_a_few_rows(lengths: Indices, batch: int) -> None:
    sizes = [len(piece) for piece in epoch(lengths, batch, 0)]
    assert max(sizes) <= batch
    assert min(sizes) >= min(len(lengths), batch) // 2


def test_seventeen_rows_in_batches_of_sixteen_are_nine_and_eight() -> None:
    assert sorted(map(len, epoch(np.ones(17, np.intp), 16, 0))) == [8, 9]


def test_rows_of_like_length_save_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 2000)
    at_random = np.array_split(rng(0).permutation(len(lengths)), 125)
    assert padding(lengths, epoch(lengths, 16, 0)) < 0.1
    assert padding(lengths, at_random) > 0.4  # control: without buckets


def test_few_rows_meet_other_rows_in_every_epoch() -> None:
    lengths = np.arange(64)
    first, second = ({frozenset(piece) for piece in epoch(lengths, 8, seed)} for seed in (0, 1))
    assert not first & second
    whole = {frozenset(piece) for piece in batches_by_length(np.arange(64), lengths, 8)}
    assert whole == {frozenset(range(n, n + 8)) for n in range(0, 64, 8)}  # control: one bucket pins the company


def test_the_order_of_batches_does_not_follow_length() -> None:
    lengths = np.arange(640)
    means = [lengths[piece].mean() for piece in epoch(lengths, 8, 0)]
    assert 0.3 < np.mean(np.diff(means) > 0) < 0.7  # sorted buckets of 16 would climb at 15 steps of 16


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 40))
def test_by_length_is_sorted_and_whole(lengths: Indices, batch: int) -> None:
    pieces = batches_by_length(np.arange(len(lengths)), lengths, batch)
    round_id = np.concatenate(pieces)
    assert sorted(round_id) == list(range(len(lengths)))
    assert (np.diff(lengths[round_id]) >= 0).all()
    assert len(pieces) == -(-len(lengths) // batch)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_batches_go_on_as_long_as_one_asks(count: int) -> None:
    assert len(list(islice(bucketed_epochs(np.array([3, 4]), 1, rng(0)), count))) == count
