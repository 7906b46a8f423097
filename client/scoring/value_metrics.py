"""Correlations of predictions with what is true, from -1 to 1: of labels, or of numbers."""

import math
from collections.abc import Sequence

_Numbers = Sequence[float]


def matthews(predicted: Sequence[int], true: Sequence[int]) -> float:
    """Return Matthews' correlation of labels, over two or more classes; 0 where all predictions are alike."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(true, predicted))


def pearson(predicted: _Numbers, true: _Numbers) -> float | None:
    """Return Pearson's correlation of numbers; None where it is undefined, as one side is constant."""
    from scipy.stats import pearsonr

    return _defined(float(pearsonr(predicted, true).statistic)) if _varies(predicted, true) else None


def spearman(predicted: _Numbers, true: _Numbers) -> float | None:
    """Return the correlation of the numbers' ranks; None where it is undefined, as one side is constant."""
    from scipy.stats import spearmanr

    return _defined(float(spearmanr(predicted, true).statistic)) if _varies(predicted, true) else None


def _varies(*sides: _Numbers) -> bool:
    return all(len(set(side)) > 1 for side in sides)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
