"""A mean over seeds, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, and the ends of its interval, which are NaN for one value."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it in three decimals, with its interval if it has one."""
        interval = "" if np.isnan(self.low) else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.mean:.3f}{interval}"


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of values with the 95 % interval of Student's t."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Estimate(mean, mean - half, mean + half)


def median(values: Sequence[float]) -> Estimate:
    """Return the median with the interval of its order statistics, which a few slow repetitions do not move."""
    ordered, count = sorted(values), len(values)
    below = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))
    return Estimate(float(np.median(ordered)), ordered[max(below - 1, 0)], ordered[min(count - below, count - 1)])


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the mean of first - second, seed by seed."""
    return estimate([a - b for a, b in zip(first, second, strict=True)])
