"""Adapters whose factors are in a file: each access reads one module, so memory holds one at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import IO, Any

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
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


Side = Array | ArrayLocation


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
        if isinstance(a, ArrayLocation) or isinstance(b, ArrayLocation):
            a, b = self._read(a, b)
        return Factors(a, b)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sides)

    def __len__(self) -> int:
        return len(self._sides)

    def _read(self, *sides: Side) -> list[Array]:
        try:
            with open_plain(self._file) as stream:
                return [side.read(stream) if isinstance(side, ArrayLocation) else side for side in sides]
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self._file} cannot be read back ({error}); the last committed round is intact: fix the cause"
            ) from error


def back_by_file(file: Path, buffer: bytes | mmap, adapter: Adapter) -> DiskAdapter:
    """Return an adapter of views on a buffer, read from a file of the same bytes; other arrays stay in memory."""
    start, size = np.frombuffer(buffer, np.uint8).ctypes.data, len(buffer)

    def side(array: Array) -> Side:
        offset = array.ctypes.data - start
        return ArrayLocation(offset, array.dtype, array.shape) if 0 <= offset < size else array

    return DiskAdapter(file, {name: (side(f.a), side(f.b)) for name, f in adapter.items()})
