"""Similarity of the subspaces that updates move in (LoRA, arXiv 2106.09685, section 7.2 and appendix G)."""

from typing import Literal

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Array, Factors

Side = Literal["left", "right"]
"""Of singular vectors: `left`, in the outputs of a module, or `right`, in its inputs."""


def directions(factors: Factors, side: Side = "right") -> Array:
    """Return the singular vectors of B A on one side as columns (d or k, q), the largest singular value first."""
    u, _, vt = lowrank.svd(factors)
    return u if side == "left" else vt.T


def factor_directions(factors: Factors, side: Side = "right") -> Array:
    """Return the same of one factor alone, as the paper takes them: right of A, left of B.

    Unlike those of B A they depend on how the product is split, and in A also on its random start.
    """
    if side == "left":
        return np.asarray(np.linalg.svd(factors.b.astype("f8"), full_matrices=False)[0])
    return np.asarray(np.linalg.svd(factors.a.astype("f8"), full_matrices=False)[2].T)


def similarity(first: Array, second: Array) -> Array:
    """Return phi(i, j) = ||U_i^T V_j||_F^2 / min(i, j) of the first i and j columns, for every i and j (eq. 4).

    It is 1 where one span contains the other, and 0 where they are orthogonal.

    Args:
        first: orthonormal columns U (n, p).
        second: orthonormal columns V (n, q).

    Returns:
        (p, q); entry (i - 1, j - 1) is phi(i, j).
    """
    overlap = np.cumsum(np.cumsum((first.T @ second) ** 2, axis=0), axis=1)
    smaller = np.minimum.outer(np.arange(1, first.shape[1] + 1), np.arange(1, second.shape[1] + 1))
    return np.asarray(overlap / smaller)


def expected_by_chance(n: int, i: int, j: int) -> float:
    """Return the mean of phi(i, j) between independent random subspaces of n dimensions: max(i, j) / n."""
    return max(i, j) / n
