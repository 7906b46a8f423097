"""How strongly an update amplifies directions of the frozen weight (LoRA, arXiv 2106.09685, section 7.3)."""

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Array, Factors


def top_directions(weight: Array, rank: int) -> tuple[Array, Array]:
    """Return the first `rank` left and right singular vectors of a matrix (d, k), as columns (d, r) and (k, r)."""
    u, _, vt = np.linalg.svd(weight.astype("f8"), full_matrices=False)
    return u[:, :rank], vt[:rank].T


def update_directions(update: Factors, rank: int) -> tuple[Array, Array]:
    """Return the first `rank` left and right singular vectors of B A, as columns."""
    u, _, vt = lowrank.svd(update)
    return u[:, :rank], vt[:rank].T


def random_directions(shape: tuple[int, int], rank: int, draws: np.random.Generator) -> tuple[Array, Array]:
    """Return `rank` orthonormal columns at random, for the outputs and for the inputs of a (d, k)."""
    u, v = (np.linalg.qr(draws.standard_normal((n, rank)))[0] for n in shape)
    return u, v


def projected_norm(weight: Array, directions: tuple[Array, Array]) -> float:
    """Return ||U^T W V||_F: how much of a weight (d, k) lies in directions U (d, r) and V (k, r)."""
    u, v = directions
    return float(np.linalg.norm(u.T @ weight.astype("f8") @ v))


def amplification(update: Factors, weight: Array, rank: int) -> float:
    """Return ||dW||_F / ||U^T W V||_F with U and V of dW: what its directions have grown by (table 7's factor)."""
    return lowrank.norm(update) / projected_norm(weight, update_directions(update, rank))
