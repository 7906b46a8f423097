"""Means over seeds, and paired bootstrap over the test rows within each seed (Efron & Tibshirani 1993, chapter 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.seeding import rng
from simulations.results.records import Record

DRAWS = 2_000
INTERVAL = 2.5, 97.5
"""Percentiles: the interval holds 95 % of the draws."""
Draws = NDArray[np.float64]
"""The mean accuracy over the seeds in each draw."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One way to run a method, over its seeds.

    Args:
        records: one a seed.
        accuracy: mean over the seeds.
        gain: accuracy beyond that of the reference.
        closed: share of the way from the reference to pooled training.
    """

    records: tuple[Record, ...]
    accuracy: float
    gain: Estimate
    closed: Estimate


Seeds = Mapping[int, Record]
"""The records of one way to run a method, by seed."""


def lines(ways: Sequence[Seeds], pooled: Seeds, reference: Seeds) -> list[Line]:
    """Return a line for each way, on the seeds that it shares with pooled training and the reference.

    Args:
        ways: the ways to run methods.
        pooled: of pooled training.
        reference: what gains are counted from.
    """
    return [line for way in ways if (line := _line(way, pooled, reference)) is not None]


def _line(way: Seeds, pooled: Seeds, reference: Seeds) -> Line | None:
    seeds = sorted(way.keys() & pooled.keys() & reference.keys())
    if not seeds:
        return None
    (own, own_draws), (low, low_draws), (top, top_draws) = (_draw(each, seeds) for each in (way, reference, pooled))
    gain = _estimate(own - low, own_draws - low_draws)
    closed = _estimate(
        (own - low) / (top - low) if top > low else np.nan, _share_closed(own_draws - low_draws, top_draws - low_draws)
    )
    return Line(tuple(way[seed] for seed in seeds), own, gain, closed)


def _draw(records: Seeds, seeds: Sequence[int]) -> tuple[float, Draws]:
    """Return the mean accuracy, and that of each draw; the draws of a seed are the same rows for every method."""
    means, draws = [], []
    for seed in seeds:
        right = np.array([bit == "1" for bit in records[seed].right])
        means.append(right.mean())
        draws.append(_counts(seed, len(right)) @ right / len(right))
    return float(np.mean(means)), np.mean(draws, axis=0)


@cache
def _counts(seed: int, rows: int) -> NDArray[np.int64]:
    """Return how often each row is drawn, with replacement, in each draw."""
    return rng("bootstrap", seed).multinomial(rows, np.full(rows, 1 / rows), DRAWS)


def _share_closed(part: Draws, whole: Draws) -> Draws:
    """Return part / whole; NaN where there is no way to go."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _estimate(value: float, draws: Draws) -> Estimate:
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))
