"""Seeded orders of rows in batches, with rows of similar length together to save padding."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

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
