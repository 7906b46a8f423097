"""Low-rank factors of one module, and an adapter: one pair of factors for each target module.

    dW (d, k) = B (d, r) @ A (r, k)          LoRA, arXiv 2106.09685, section 4.1

The scale s = alpha / r is always folded into B, so adapters with different alpha or rank add up directly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Shapes = Mapping[str, tuple[int, int]]
"""(d, k) by module name: d outputs, k inputs (an embedding of n words in e dimensions is (e, n))."""


@dataclass(frozen=True, eq=False)
class Factors:
    """Read-only factors a (r, k) and b (d, r) of dW = b @ a.

    Raises:
        ValueError: the two do not form a product.
    """

    a: Array
    b: Array

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.b.shape[1] != self.a.shape[0]:
            raise ValueError(f"b {self.b.shape} @ a {self.a.shape} is not a product of matrices")
        object.__setattr__(self, "a", _read_only(self.a))
        object.__setattr__(self, "b", _read_only(self.b))

    @property
    def rank(self) -> int:
        """r, the number of columns of b."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(d, k), the shape of dW."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    def astype(self, dtype: str) -> "Factors":
        """Return the same factors in another floating-point type."""
        return Factors(self.a.astype(dtype, copy=False), self.b.astype(dtype, copy=False))

    def leading_part(self, rank: int) -> "Factors":
        """Return the first `rank` rows of a and columns of b."""
        return Factors(self.a[:rank], self.b[:, :rank])

    def trailing_part(self, rank: int) -> "Factors":
        """Return the rows and columns that `leading_part` leaves out."""
        return Factors(self.a[rank:], self.b[:, rank:])


class Adapter(Mapping[str, Factors]):
    """Immutable mapping of module name -> factors, in order of name."""

    def __init__(self, modules: Mapping[str, Factors] | None = None) -> None:
        self._modules = MappingProxyType(dict(sorted((modules or {}).items())))

    def __getitem__(self, name: str) -> Factors:
        return self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __repr__(self) -> str:
        return f"Adapter({len(self)} modules, rank {self.rank})"

    @property
    def rank(self) -> int:
        """The largest rank of its modules; 0 if it has none."""
        return max((f.rank for f in self.values()), default=0)

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of each module, by name."""
        return {name: f.rank for name, f in self.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(d, k) by module name."""
        return {name: f.shape for name, f in self.items()}

    def astype(self, dtype: str) -> "Adapter":
        """Return the same adapter in another floating-point type."""
        return Adapter({name: f.astype(dtype) for name, f in self.items()})

    def arrays(self) -> dict[str, Array]:
        """Return all arrays under flat names for storage: `NAME.a` and `NAME.b`."""
        return {f"{name}.{side}": getattr(f, side) for name, f in self.items() for side in "ab"}


def zeros(shapes: Shapes, rank: int = 0) -> Adapter:
    """Make an adapter that changes nothing: per module min(rank, d, k) zero rows and columns."""
    return Adapter(
        {
            name: Factors(np.zeros((min(rank, d, k), k), np.float32), np.zeros((d, min(rank, d, k)), np.float32))
            for name, (d, k) in shapes.items()
        }
    )


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
