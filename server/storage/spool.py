"""The spool: valid replies of the running round, and the next state while it is made, on disk instead of in memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.errors import RunError
from server.storage.disk_adapter import ArrayLocation, DiskAdapter, back_by_file


def spool_update(file: Path, blob: bytes, adapter: Adapter) -> DiskAdapter:
    """Write the blob to a file, and return its adapter as read from there; factors that are not views stay in memory.

    Raises:
        RunError: it cannot be written.
    """
    with _as_run_errors(file):
        file.write_bytes(blob)
    return back_by_file(file, blob, adapter)


def spool_state(file: Path, modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> dict[str, Adapter]:
    """Write modules, each with its factors by part, to a file as they arrive, and return the parts of the state.

    Raises:
        RunError: it cannot be written.
    """
    parts: dict[str, dict[str, tuple[ArrayLocation, ArrayLocation]]] = {}
    with _as_run_errors(file), file.open("wb") as stream:
        for name, factors in modules:
            for part, each in factors.items():
                parts.setdefault(part, {})[name] = _put(each.a, stream), _put(each.b, stream)
    return {part: DiskAdapter(file, sides) for part, sides in parts.items()}


def _put(array: Array, stream: BinaryIO) -> ArrayLocation:
    place = ArrayLocation(stream.tell(), array.dtype, array.shape)
    stream.write(np.ascontiguousarray(array).data)
    return place


@contextmanager
def _as_run_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot keep {file} until the round ends: {error.strerror}; the last committed round is intact: "
            "fix the cause, then run again (a simulation: with --resume)"
        ) from error
