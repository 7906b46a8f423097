"""Seeded orders of rows in batches, with rows of similar length together to save padding."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from common.seeding import rng

Indices = NDArray[np.intp]

_BUCKET = 16
"""Largest number of batches whose rows are sorted by length together."""


def bucketed_epochs(lengths: Indices, batch: int, random: np.random.Generator) -> Iterator[Indices]:
    """Yield the row indices of each batch, endlessly; every epoch has each row once, in random order.

    Rows are sorted by length within random buckets of a quarter of an epoch or less: if the whole epoch were sorted,
    the same rows would share a batch in every epoch.
    """
    pieces = -(-len(lengths) // batch)
    buckets = pieces // max(1, min(_BUCKET, pieces // 4))
    while True:
        order = random.permutation(len(lengths))
        cut = [piece for rows in np.array_split(order, buckets) for piece in batches_by_length(rows, lengths, batch)]
        yield from (cut[index] for index in random.permutation(len(cut)))


def batches_by_length(rows: Indices, lengths: Indices, batch: int) -> list[Indices]:
    """Split the rows, shortest first, into the fewest even pieces of at most `batch`, so no step gets one row."""
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    return np.array_split(ordered, -(-len(ordered) // batch))


def epoch_rows(count: int, begin: int, size: int, key: tuple[int | str, ...]) -> Indices:
    """Return the row indices at the places `begin` to `begin + size` of endless epochs, each a permutation of all rows.

    Args:
        count: rows of an epoch.
        begin: first place.
        size: number of places.
        key: of the epochs; with the number of an epoch it keys its permutation.
    """
    first, last = begin // count, (begin + size - 1) // count
    epochs = np.concatenate([rng("epoch", *key, number).permutation(count) for number in range(first, last + 1)])
    return epochs[begin - first * count :][:size]
