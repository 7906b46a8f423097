"""Algebra on factors of dW = B A, without the (d, k) product where factors are smaller; NumPy with a float64 core.

Every result is a function of the product alone: (B Q, Q^-1 A) gives the same answer as (B, A). Cost for rank r is
O(r^2 (d + k) + r^3) time and O(r (d + k)) memory.
"""

from collections.abc import Iterable
from math import sqrt

import numpy as np

from common.adapters.adapter import Array, Factors


def stack(terms: Iterable[tuple[float, Factors]]) -> Factors:
    """Return factors of sum_i c_i B_i A_i, exactly: [c_1 B_1 | c_2 B_2 | ...] and [A_1; A_2; ...] in float64.

    The weight goes into B alone; on both factors it would count twice (FLoRA, arXiv 2409.05976, eq. 5).

    Raises:
        ValueError: there is no term, or the terms differ in shape.
    """
    weighted = [(c, f.astype("f8")) for c, f in terms]
    return Factors(np.vstack([f.a for _, f in weighted]), np.hstack([c * f.b for c, f in weighted]))


def total(terms: Iterable[tuple[float, Factors]]) -> Factors:
    """Return factors of sum_i c_i B_i A_i in float64, of rank at most 2 min(d, k) for any number of terms.

    Terms are read one by one: it takes the memory of a stack, or of a few d x k if the stack would be larger.

    Raises:
        ValueError: there is no term, or the terms differ in shape.
    """
    held: list[tuple[float, Factors]] = []
    for term in terms:
        held.append(term)
        if sum(factors.rank for _, factors in held) > 2 * min(term[1].shape):
            held = [(1.0, _multiply(stack(held)))]
    return stack(held)


def padded_sum(terms: Iterable[tuple[float, Array]], shape: tuple[int, int]) -> Array:
    """Return sum_i c_i [B_i | 0] of this shape in float64, for B_i (d, r_i); terms are read one by one."""
    result = np.zeros(shape)
    for c, array in terms:
        result[:, : array.shape[1]] += c * array.astype("f8")
    return result


def svd(factors: Factors) -> tuple[Array, Array, Array]:
    """Return the thin singular value decomposition U (d, q), sigma (q,), Vt (q, k) of B A, of numerical rank q.

    QR of either factor, then the singular values of the small core (FLoRIST, arXiv 2506.09199, section 3).
    """
    q_b, r_b = np.linalg.qr(factors.b.astype("f8"))
    q_a, r_a = np.linalg.qr(factors.a.astype("f8").T)
    u, sigma, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = _numerical_rank(sigma, max(factors.shape))
    return q_b @ u[:, :kept], sigma[:kept], vt[:kept] @ q_a.T


def truncate(factors: Factors, rank: int | None = None, energy: float = 1.0) -> Factors:
    """Return the best approximation of B A in the Frobenius norm, of at most `rank`, as balanced float64 factors.

    Args:
        factors: B (d, r) and A (r, k).
        rank: largest rank; None keeps the numerical rank, and so the product.
        energy: keep the fewest directions that make up this share of the sum of squared singular values.
    """
    u, sigma, vt = svd(factors)
    kept = min(len(sigma) if rank is None else rank, _rank_of_energy(sigma, energy))
    root = np.sqrt(sigma[:kept])
    return Factors(root[:, None] * vt[:kept], u[:, :kept] * root)


def recompress(factors: Factors) -> Factors:
    """Return the same product with as few rows and columns as it has rank, balanced, in float64."""
    return truncate(factors)


def inner(left: Factors, right: Factors) -> float:
    """Return <B1 A1, B2 A2>, the sum of the products of all entries."""
    f, g = left.astype("f8"), right.astype("f8")
    return float(np.sum((f.b.T @ g.b) * (f.a @ g.a.T)))


def norm(factors: Factors) -> float:
    """Return the Frobenius norm of B A, not by `inner`, so that a small difference of large terms keeps its digits."""
    if factors.rank >= min(factors.shape):  # the product is no larger than either factor, and cheaper than their QR
        return float(np.linalg.norm(factors.b.astype("f8") @ factors.a.astype("f8")))
    return float(np.linalg.norm(_triangle(factors.b) @ _triangle(factors.a.T).T))


def total_norm(modules: Iterable[Factors]) -> float:
    """Return the Frobenius norm over several modules together."""
    return sqrt(sum(norm(factors) ** 2 for factors in modules))


def spectrum(factors: Factors) -> Array:
    """Return the singular values of B A, largest first, without those that are zero in float64."""
    return svd(factors)[1]


def _multiply(factors: Factors) -> Factors:
    """Return the product itself beside a unit matrix, which is smaller than factors of a rank above d and k."""
    product = factors.b @ factors.a
    d, k = product.shape
    return Factors(product, np.eye(d)) if d <= k else Factors(np.eye(k), product)


def _triangle(matrix: Array) -> Array:
    return np.asarray(np.linalg.qr(matrix.astype("f8"), mode="r"))


def _numerical_rank(sigma: Array, size: int) -> int:
    if not sigma.size or sigma[0] == 0:
        return 0
    return int(np.sum(sigma > sigma[0] * size * np.finfo(np.float64).eps))


def _rank_of_energy(sigma: Array, energy: float) -> int:
    if energy >= 1 or not sigma.size:
        return len(sigma)
    return int(np.searchsorted(np.cumsum(sigma**2), energy * np.sum(sigma**2))) + 1
