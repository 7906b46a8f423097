"""Lengths of rows, in tokens or characters: their spread, and what a limit cuts."""

from dataclasses import dataclass

import numpy as np

from client.data.batch_order import Indices

CUT = 0.01
"""Share of rows that may be cut without a word."""
_BINS = 8


@dataclass(frozen=True)
class Bin:
    """The number of rows whose lengths are from `first` to `last`, both included."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class Spread:
    """Shortest, median, 95 %-quantile and longest of n lengths, and a histogram."""

    least: int
    median: int
    most95: int
    most: int
    bins: tuple[Bin, ...]


def spread(lengths: Indices) -> Spread:
    """Return the spread of lengths (n,), of which there is at least one."""
    median, most95 = (int(each) for each in np.quantile(lengths, [0.5, 0.95], method="higher"))
    least, most = int(lengths.min()), int(lengths.max())
    return Spread(least, median, most95, most, _histogram(lengths, least, most))


def _histogram(lengths: Indices, least: int, most: int) -> tuple[Bin, ...]:
    width = -(-(most - least + 1) // _BINS)
    counts = np.bincount((lengths - least) // width)
    starts = (least + place * width for place in range(len(counts)))
    return tuple(Bin(first, first + width - 1, int(rows)) for first, rows in zip(starts, counts, strict=True))


def count_longer(lengths: Indices, limit: int) -> int:
    """Return how many of the lengths (n,) exceed the limit."""
    return int((lengths > limit).sum())


def limit_for(lengths: Indices, share: float) -> int:
    """Return the least limit that at most this share of the lengths (n,) exceeds."""
    ordered = np.sort(lengths)[::-1]
    return int(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def better_limit(lengths: Indices, most: int | None) -> int:
    """Return a limit for lengths (n,) that cuts none, or hardly any where a few are far longer than others.

    Args:
        lengths: of rows.
        most: the largest limit that is possible; None for any.
    """
    longest, nearly = int(lengths.max()), limit_for(lengths, CUT)
    limit = -(-(longest if longest <= 1.5 * nearly else nearly) // 8) * 8
    return min(limit, most or limit)
