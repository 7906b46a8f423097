"""Adapters whose factors are in a file: each access reads one module, so memory holds one at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.int8 import PackedArray, Rows, Source, sources_of
from common.errors import RunError
from common.plain_files import open_plain


@dataclass(frozen=True)
class ArrayLocation:
    """The position of an array in a file."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self, stream: IO[bytes]) -> Array:
        """Read the array; raise OSError or ValueError where the file no longer has these bytes."""
        stream.seek(self.offset)
        return np.fromfile(stream, self.dtype, int(np.prod(self.shape))).reshape(self.shape)


@dataclass(frozen=True)
class PackedLocation:
    """The position of a packed factor in a file."""

    scales: ArrayLocation
    integers: ArrayLocation
    is_b: bool

    def read(self, stream: IO[bytes]) -> Array:
        """Read and unpack the factor; errors as of `ArrayLocation.read`."""
        return PackedArray(Rows(self.scales.read(stream), self.integers.read(stream)), self.is_b).unpack()


Location = ArrayLocation | PackedLocation
Side = Array | Location


class DiskAdapter(Adapter):
    """An adapter in a file."""

    def __init__(self, file: Path, sides: Mapping[str, tuple[Side, Side]]) -> None:
        """Read each module's a and b from these positions in the file; arrays stay in memory."""
        self._file, self._sides = file, dict(sorted(sides.items()))

    def __getitem__(self, name: str) -> Factors:
        """Read a module's factors.

        Raises:
            RunError: the file cannot be read, or no longer has these bytes.
        """
        a, b = self._sides[name]
        if isinstance(a, Location) or isinstance(b, Location):
            a, b = self._read(a, b)
        return Factors(a, b)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sides)

    def __len__(self) -> int:
        return len(self._sides)

    def _read(self, *sides: Side) -> list[Array]:
        try:
            with open_plain(self._file) as stream:
                return [side.read(stream) if isinstance(side, Location) else side for side in sides]
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self._file} cannot be read back ({error}); the last committed round is intact: fix the cause"
            ) from error


def back_by_file(file: Path, buffer: bytes | mmap, adapter: Adapter) -> DiskAdapter:
    """Return an adapter of views on a buffer, read from a file of the same bytes; other arrays stay in memory."""
    start, size = np.frombuffer(buffer, np.uint8).ctypes.data, len(buffer)

    def located(array: NDArray[Any]) -> NDArray[Any] | ArrayLocation:
        offset = array.ctypes.data - start
        return ArrayLocation(offset, array.dtype, array.shape) if 0 <= offset < size else array

    def side(source: Source) -> Side:
        if not isinstance(source, PackedArray):
            return located(source)
        scales, integers = map(located, source.rows)
        if isinstance(scales, ArrayLocation) and isinstance(integers, ArrayLocation):
            return PackedLocation(scales, integers, source.is_b)
        return source.unpack()

    return DiskAdapter(file, {name: (side(a), side(b)) for name, (a, b) in sources_of(adapter).items()})
