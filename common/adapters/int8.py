"""Rows of 8-bit integers with a scale each: x = s q with q in -127..127, for each direction of a factor.

A direction is a row of A or a column of B, so that a scale is shared by d or k numbers whatever the rank. The scale has
a mantissa of 16 bits: s q is exact in float32, and s = max |x| / 127 gives it back. So there is one way to write values
that were rounded to this form, and they come back with the same bits. The largest of a row loses up to 3e-5 of itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapter import Adapter, Array, Factors
from common.errors import CodecError

LARGEST = 127
"""Largest q; that of every row which is not zero."""
_TINY = 2.0**-100
"""Rows below it are zero, so that no scale is subnormal."""
_MANTISSA = 2.0**16


class Rows(NamedTuple):
    """Scales (n,) in float32 and integers (n, m); a row with a number that is not finite has a scale of NaN."""

    scales: NDArray[Any]
    integers: NDArray[Any]


@dataclass(frozen=True, eq=False)
class PackedArray:
    """A factor as it is stored; a B is stored by its columns."""

    rows: Rows
    is_b: bool

    def unpack(self) -> Array:
        """Return the factor in float32, in C order: products of other orders may have other bits."""
        values: Array = self.rows.integers * self.rows.scales.astype("f4")[:, None]
        return np.ascontiguousarray(values.T) if self.is_b else values


def pack_rows(values: Array, draws: Array | None = None) -> Rows:
    """Return the rows of integers nearest to these (n, m); with draws from [0, 1), those of the unbiased rounding."""
    finite = np.asarray(np.isfinite(values).all(axis=1))
    values = np.where(finite[:, None], values, 0).astype("f8")
    scales = _scales(np.abs(values).max(axis=1, initial=0.0))
    ratio = np.divide(values, scales[:, None], out=np.zeros_like(values), where=scales[:, None] > 0)
    whole = np.rint(ratio) if draws is None else np.floor(ratio + draws)
    integers = np.clip(whole, -LARGEST, LARGEST).astype(np.int8)
    return Rows(np.where(finite, scales, np.nan).astype("f4"), integers)


def _scales(largest: Array) -> Array:
    """Return largest / 127 cut to a mantissa of 16 bits, so that the largest of a row is always at 127."""
    mantissa, exponent = np.frexp(largest / LARGEST)
    scales = np.ldexp(np.floor(mantissa * _MANTISSA) / _MANTISSA, exponent)
    return np.asarray(np.where(LARGEST * scales < _TINY, 0.0, scales))


def check_rows(name: str, rows: Rows) -> None:
    """Check that these are rows as `pack_rows` makes them.

    Raises:
        CodecError: they are not.
    """
    scales = rows.scales.astype("f8")
    largest = np.abs(rows.integers.astype(np.int16)).max(axis=1, initial=0)
    used = (
        (largest == LARGEST) & (scales >= _TINY / LARGEST) & (scales < np.inf) & (scales == _scales(LARGEST * scales))
    )
    empty = (largest == 0) & ((rows.scales.view("<u4") == 0) | (rows.scales.view("<u4") == _NAN))
    if not (used | empty).all():
        raise CodecError(f"{name} is not in canonical form: a scale is not that of its row of integers")


_NAN = int(np.array(np.nan, "<f4").view("<u4"))


Source = Array | PackedArray
"""A factor, or what it is unpacked from."""
Sources = Mapping[str, tuple[Source, Source]]
"""A and B of each module."""


class PackedAdapter(Adapter):
    """An adapter of which some factors are packed; each access unpacks one module, so that memory holds one."""

    def __init__(self, sources: Sources) -> None:
        self.sources = dict(sorted(sources.items()))

    def __getitem__(self, name: str) -> Factors:
        return Factors(*map(_unpacked, self.sources[name]))

    @property
    def rank(self) -> int:
        """The largest rank of its modules, without unpacking one."""
        return max(self.ranks.values(), default=0)

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of each module, without unpacking one."""
        return {name: _shape(a)[0] for name, (a, _) in self.sources.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(d, k) by module name, without unpacking one."""
        return {name: (_shape(b)[0], _shape(a)[1]) for name, (a, b) in self.sources.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def sources_of(adapter: Adapter) -> Sources:
    """Return A and B of each module as they are stored."""
    return adapter.sources if isinstance(adapter, PackedAdapter) else {n: (f.a, f.b) for n, f in adapter.items()}


def _unpacked(source: Source) -> Array:
    return source.unpack() if isinstance(source, PackedArray) else source


def _shape(source: Source) -> tuple[int, int]:
    """Return the shape of a factor."""
    if not isinstance(source, PackedArray):
        return int(source.shape[0]), int(source.shape[1])
    rows, columns = source.rows.integers.shape
    return (columns, rows) if source.is_b else (rows, columns)
