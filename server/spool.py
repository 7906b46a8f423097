"""Admitted replies of the running round, on disk: a reduction reads them back one module at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from common.adapter import Adapter, Array, Factors
from common.errors import RunError


class Spooled(Mapping[str, Factors]):
    """An adapter whose factors lie in a file and are read at each access, so that memory holds one module of it."""

    def __init__(self, file: Path, blob: bytes, adapter: Adapter) -> None:
        """Write the blob that the adapter is a view on; factors that are no views on it stay in memory.

        Raises:
            RunError: it cannot be written.
        """
        _write(file, blob)
        self._file = file
        self._start = np.frombuffer(blob, np.uint8).ctypes.data
        self._size = len(blob)
        self._sides = {name: (self._place(f.a), self._place(f.b)) for name, f in adapter.items()}

    def __getitem__(self, name: str) -> Factors:
        a, b = self._sides[name]
        return Factors(self._read(a), self._read(b))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sides)

    def __len__(self) -> int:
        return len(self._sides)

    def _place(self, array: Array) -> "Array | _Place":
        offset = array.ctypes.data - self._start
        return _Place(offset, array) if 0 <= offset < self._size else array

    def _read(self, side: "Array | _Place") -> Array:
        return side if isinstance(side, np.ndarray) else side.read(self._file)


def _write(file: Path, blob: bytes) -> None:
    try:
        file.write_bytes(blob)
    except OSError as error:
        raise RunError(
            f"cannot keep {file} until the round ends: {error.strerror}; the last committed round is intact: "
            "mend the cause, then run again with --resume"
        ) from error


class _Place:
    """Where in the file an array lies."""

    def __init__(self, offset: int, array: Array) -> None:
        self._offset, self._dtype, self._shape = offset, array.dtype, array.shape

    def read(self, file: Path) -> Array:
        count = int(np.prod(self._shape))
        return np.fromfile(file, self._dtype, count, offset=self._offset).reshape(self._shape)
