"""Heads from sums: class means, and linear discriminant analysis (LDA); nothing is trained.

    mu_c = S_c / n_c        W_c = P mu_c        b_c = log(n_c / N) - mu_c^T P mu_c / 2        logits = (W phi + b) / T

P is, for `means`, the identity over lambda times the mean squared distance of the class means; for `lda` the inverse of
Sigma + lambda tr(Sigma) / H I, with the covariance within classes Sigma = (G - sum_c n_c mu_c mu_c^T) / N. As the sums
are exact, the head is that of all rows together, however they are split (Fed3R, arXiv 2406.01116, for ridge
regression).

A new head has no bias that is trained, so b becomes part of W: with v the least-squares solution of v^T phi = 1,
W <- W + b v^T.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Array, Factors
from common.heads.class_sums import ClassSums

Kind = Literal["means", "lda"]
PENALTIES: Mapping[str, tuple[float, ...]] = {
    "means": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "lda": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
}
"""Values of lambda to choose from."""
TEMPERATURES = 1.0, 1.5, 2.0, 3.0, 5.0, 8.0
"""Values of T to choose from."""
_CONSTANT = 1e-6
"""Penalty of the direction v in which features are about constant."""
_LEAST = 1e-9
"""Smallest penalty of means, as a share of their square: they may be alike, for example of one row."""
_LEAST_OF_GRAM = 3e-8
"""The same of a covariance, as a share of the mean square of features, of which it is a small difference: below it the
rounding of the sums, which depends on the split, would move the head by 1e-6."""


def head_weight(sums: ClassSums, kind: Kind, penalty: float) -> Array:
    """Return W (C, H) at T = 1, b included; a class without rows has the mean of all.

    Args:
        sums: over the rows of all nodes; for `lda` with the Gram matrix.
        kind: of the head.
        penalty: lambda.
    """
    rows, counts = max(sums.rows, 1.0), sums.counts[:, None]
    middle = sums.classes[:, :-1].sum(axis=0) / rows
    means = np.where(counts > 0, sums.classes[:, :-1] / np.maximum(counts, 1e-12), middle)
    weighed = _weigh(sums, kind, penalty, means, middle)
    bias = np.log(np.maximum(sums.counts, 0.5) / rows) - 0.5 * np.sum(weighed * means, axis=1)
    weight = weighed - weighed.mean(axis=0)  # what all logits have in common changes no probability
    return np.asarray(weight + np.outer(bias - bias.mean(), _constant(sums, middle, rows)))


def as_factors(weight: Array, temperature: float = 1.0) -> Factors:
    """Return exact float64 factors of W / T, of rank C at most."""
    return lowrank.recompress(Factors(weight / temperature, np.eye(len(weight))))


def _weigh(sums: ClassSums, kind: Kind, penalty: float, means: Array, middle: Array) -> Array:
    """Return P mu_c of each class (C, H)."""
    if kind == "means" or sums.gram is None:
        spread = float(np.mean(np.sum((means - middle) ** 2, axis=1)))
        return np.asarray(means / max(penalty * spread, _LEAST * float(np.sum(means**2)) or 1.0))
    within = (sums.gram[:-1, :-1] - (means * sums.counts[:, None]).T @ means) / max(sums.rows, 1.0)
    return _solve(within, penalty, sums, means.T).T


def _constant(sums: ClassSums, middle: Array, rows: float) -> Array:
    """Return v (H,), along which v^T phi is 1 as nearly as it can be; without a Gram matrix, at the mean of phi."""
    if sums.gram is None:
        return np.asarray(middle / (float(middle @ middle) or 1.0))
    return _solve(sums.gram[:-1, :-1] / rows, _CONSTANT, sums, middle)


def _solve(matrix: Array, penalty: float, sums: ClassSums, right: Array) -> Array:
    """Return (M + ridge I)^-1 x, with the penalty times the mean of M's diagonal for the ridge."""
    assert sums.gram is not None
    size, square = len(matrix), float(np.trace(sums.gram[:-1, :-1])) / max(sums.rows, 1.0)
    ridge = max(penalty * float(np.trace(matrix)), _LEAST_OF_GRAM * square) / size or 1.0
    return np.asarray(np.linalg.solve(matrix + ridge * np.eye(size), right))
