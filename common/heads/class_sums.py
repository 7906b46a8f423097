"""Sums of features by class, which add up over nodes: whatever the split, they are those of all rows.

Of features phi (H,) of each row, with a 1 behind them so that counts are sums too, x = (phi, 1):

    classes (C, H + 1)   sum of x over the rows of each class; its last column has the counts
    gram (H + 1, H + 1)  sum of x x^T over all rows; only for a head that needs it

They travel as factors A in float64 beside a B that is the identity and is not sent: `classes`, and of the symmetric
Gram matrix its upper triangle as one row, `gram`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter, encoded_size
from common.errors import CodecError

_CLOSE = 1e-6
"""Relative difference up to which sums that are one number, counted in two ways, agree."""


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums over rows, in float64; `gram` is None for a head that does not need it."""

    classes: Array
    gram: Array | None = None

    @property
    def counts(self) -> Array:
        """Rows of each class (C,)."""
        return self.classes[:, -1]

    @property
    def rows(self) -> float:
        """Number of rows."""
        return float(self.counts.sum())

    def __add__(self, other: "ClassSums") -> "ClassSums":
        gram = None if self.gram is None or other.gram is None else self.gram + other.gram
        return ClassSums(self.classes + other.classes, gram)

    @property
    def size(self) -> float:
        """Length of the mean feature of each class, of all rows: sum_c ||S_c|| / N; 0 without rows."""
        with np.errstate(over="ignore"):
            return float(np.linalg.norm(self.classes[:, :-1], axis=1).sum()) / max(self.rows, 1.0)

    def scaled(self, factor: float) -> "ClassSums":
        """Return the sums of `factor` times as many rows."""
        return ClassSums(factor * self.classes, None if self.gram is None else factor * self.gram)


def sum_rows(features: Array, labels: NDArray[np.integer], classes: int, gram: bool) -> ClassSums:
    """Return the sums of rows with these features (n, H) and labels (n,)."""
    x = np.hstack([features.astype("f8"), np.ones((len(features), 1))])
    return ClassSums(np.eye(classes)[labels].T @ x, x.T @ x if gram else None)


def pack_sums(sums: ClassSums) -> bytes:
    """Pack sums into one buffer of float64."""
    adapter = _adapter(sums)
    return encode_adapter(adapter, "f64", {f"{name}.b" for name in adapter})


def packed_size(classes: int, features: int, gram: bool) -> int:
    """Return the length of what `pack_sums` returns for features of this size."""
    adapter = _form(classes, features, gram)
    return encoded_size(adapter, "f64", {f"{name}.b" for name in adapter})


def unpack_sums(buffer: bytes, classes: int, features: int, gram: bool, whole: bool = True) -> ClassSums:
    """Undo `pack_sums`, for features of this size.

    Args:
        buffer: from `pack_sums`.
        classes: C.
        features: H.
        gram: the sums have a Gram matrix.
        whole: counts are whole numbers, as they are unless a limit of the roster has scaled the sums of a node.

    Raises:
        CodecError: the buffer is malformed, of another size, or not of sums over any rows.
    """
    form = _form(classes, features, gram)
    limit = sum(array.size for array in form.arrays().values()) * 8
    adapter = decode_adapter(buffer, DecodeLimits(max_bytes=limit, shapes=form.shapes))
    if any(adapter[name].rank != factors.rank for name, factors in form.items()):
        raise CodecError("the sums are of another size")
    sums = ClassSums(adapter["classes"].a.astype("f8"))
    if gram:
        sums = ClassSums(sums.classes, _square(adapter["gram"].a[0].astype("f8"), features + 1))
    _check(sums, whole)
    return sums


def _adapter(sums: ClassSums) -> Adapter:
    factors = {"classes": Factors(sums.classes, np.eye(len(sums.classes)))}
    if sums.gram is not None:
        factors["gram"] = Factors(sums.gram[np.triu_indices(len(sums.gram))][None], np.ones((1, 1)))
    return Adapter(factors)


def _form(classes: int, features: int, gram: bool) -> Adapter:
    size, zero = features + 1, np.zeros(())
    wide = {"classes": (classes, size)} | ({"gram": (1, size * (size + 1) // 2)} if gram else {})
    shaped = {name: (np.broadcast_to(zero, shape), np.eye(shape[0])) for name, shape in wide.items()}
    return Adapter({name: Factors(a, b) for name, (a, b) in shaped.items()})


def _square(triangle: Array, size: int) -> Array:
    upper = np.zeros((size, size))
    upper[np.triu_indices(size)] = triangle
    return upper + np.triu(upper, 1).T


def _check(sums: ClassSums, whole: bool) -> None:
    """Raise unless the numbers may be sums of rows: finite, counts, no two that contradict each other."""
    finite = np.isfinite(sums.classes).all() and (sums.gram is None or bool(np.isfinite(sums.gram).all()))
    if not finite or (sums.counts < 0).any() or (whole and (sums.counts % 1 != 0).any()):
        raise CodecError("the sums are not those of any rows: a number is not finite, or a count is not one")
    if (np.abs(sums.classes[sums.counts == 0]) > 0).any():
        raise CodecError("the sums are not those of any rows: a class without rows has a sum")
    if sums.gram is not None:
        _check_gram(sums.classes, sums.counts, sums.gram)


def _check_gram(classes: Array, counts: Array, gram: Array) -> None:
    """Raise unless the Gram matrix has the sums of all classes, and each class's sum is within Cauchy-Schwarz."""
    together, square = classes.sum(axis=0), float(np.trace(gram))
    diagonal = np.diag(gram)
    if (diagonal < 0).any() or np.abs(gram[-1] - together).max() > _CLOSE * max(1.0, square):
        raise CodecError("the sums are not those of any rows: those by class and the Gram matrix contradict")
    spread = np.sqrt(np.outer(diagonal, diagonal))
    if (np.abs(gram) > (1 + _CLOSE) * spread + _CLOSE).any():
        raise CodecError("the sums are not those of any rows: the Gram matrix is not one")
    if (np.sum(classes**2, axis=1) > (1 + _CLOSE) * counts * square).any():
        raise CodecError("the sums are not those of any rows: a class is longer than its rows can be")
