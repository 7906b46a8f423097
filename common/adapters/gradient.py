"""Gradients of shared factors as they travel: each the best approximation of a rank, or whole where that is smaller.

    of s B (d, R)   b/NAME = (b (d, r), a (r, R))          of A (R, k), transposed   a/NAME = (b (k, r), a (r, R))

A matrix (n, R) of rank r takes r (n + R) numbers as factors and n R whole, which is b beside an a that is the identity
and is not sent. The best approximation is the truncated singular value decomposition (PowerSGD, arXiv 1905.13727,
approximates it by power iteration; R is small enough here for the exact one).
"""

from collections.abc import Mapping

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors

SIDES: Mapping[str, str] = {"a": "both", "b": "both b"}
"""Each side, and what a node may train where its gradient is asked for."""


def sent_rank(rows: int, columns: int, rank: int) -> int:
    """Return the rank of what a node of this rank sends of a (rows, columns) gradient; `columns` where it is whole."""
    whole = rank >= columns or rank * (rows + columns) >= rows * columns
    return columns if whole else rank


def compress(gradient: Array, rank: int) -> Factors:
    """Return what a node of this rank sends of a gradient (n, R), in float32."""
    rows, columns = gradient.shape
    kept = sent_rank(rows, columns, rank)
    if kept == columns:
        return Factors(np.eye(columns, dtype="f4"), gradient.astype("f4"))
    if not np.isfinite(gradient).all():  # The server refuses it by name; it has no directions.
        return Factors(np.full((kept, columns), np.nan, "f4"), np.full((rows, kept), np.nan, "f4"))
    # By the eigenvectors of the small Gram matrix: R is far below n.
    _, vectors = np.linalg.eigh(gradient.astype("f8").T @ gradient.astype("f8"))
    directions = vectors[:, ::-1][:, :kept]
    return Factors(directions.T.astype("f4"), (gradient.astype("f8") @ directions).astype("f4"))


def gradient_form(start: Adapter, trains: str, rank: int) -> Adapter:
    """Return zeros, which take no memory, in the form of the reply of a node of this rank to these shared factors."""
    return Adapter(
        {
            f"{side}/{name}": _zeros(array.size // factors.rank, factors.rank, rank)
            for name, factors in start.items()
            if factors.rank
            for side, array in (("a", factors.a), ("b", factors.b))
            if trains in SIDES[side].split()
        }
    )


def _zeros(rows: int, columns: int, rank: int) -> Factors:
    kept, zero = sent_rank(rows, columns, rank), np.zeros((), "f4")
    a = np.eye(columns, dtype="f4") if kept == columns else np.broadcast_to(zero, (kept, columns))
    return Factors(a, np.broadcast_to(zero, (rows, kept)))


def unsent(form: Adapter) -> set[str]:
    """Return the flat names of the identities, which are not sent, of gradients in this form."""
    return {f"{name}.a" for name, factors in form.items() if factors.rank == factors.shape[1]}


def gradient_of(side: str, matrix: Array) -> Array:
    """Return a decoded (n, R) gradient in the shape of its factor: (d, R) of `b`, (R, k) of `a`."""
    return matrix.T if side == "a" else matrix
