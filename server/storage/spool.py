"""The spool: valid replies of the running round, and the next state while it is made, on disk instead of in memory."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.disk_errors import naming_file, remedy
from common.errors import RunError
from common.plain_files import open_plain
from server.storage.disk_adapter import ArrayLocation, DiskAdapter, back_by_file


def spool_path(folder: Path, name: str, phase: int) -> Path:
    """Return the file for the factors of a reply; names of nodes do not begin with a dot."""
    return folder / (name if phase == 1 else f".{phase}.{name}")


def values_path(file: Path) -> Path:
    """Return the file for the plain values of the reply whose factors are in this file."""
    name = file.name if file.name.startswith(".") else f".1.{file.name}"
    return file.with_name(f".values{name}")


def spooled_updates(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the phase and node, as "1.ada", and the files of factors and values of each reply with values."""
    for values in sorted(folder.glob(".values.*")):
        _, _, phase, name = values.name.split(".", 3)
        yield f"{phase}.{name}", spool_path(folder, name, int(phase)), values


def spool_update(file: Path, blob: bytes, adapter: Adapter, values: Mapping[str, Any] | None = None) -> DiskAdapter:
    """Write the blob to a file, and return its adapter as read from there; factors that are not views stay in memory.

    Args:
        file: for the factors.
        blob: of the reply.
        adapter: views on the blob.
        values: plain values of the reply, for a file beside it.

    Raises:
        RunError: it cannot be written.
    """
    with _as_run_errors(file, lambda: len(blob)):
        _write(file, blob)
        if values is not None:
            _write(values_path(file), json.dumps(dict(values)).encode())
    return back_by_file(file, blob, adapter)


def spool_state(file: Path, modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> dict[str, Adapter]:
    """Write modules, each with its factors by part, to a file as they arrive, and return the parts of the state.

    Raises:
        RunError: it cannot be written.
    """
    parts: dict[str, dict[str, tuple[ArrayLocation, ArrayLocation]]] = {}
    with _as_run_errors(file), open_plain(file, "wb") as stream:
        for name, factors in modules:
            for part, each in factors.items():
                parts.setdefault(part, {})[name] = _put(each.a, stream), _put(each.b, stream)
    return {part: DiskAdapter(file, sides) for part, sides in parts.items()}


def _write(file: Path, data: bytes) -> None:
    with open_plain(file, "wb") as stream:
        stream.write(data)


def _put(array: Array, stream: BinaryIO) -> ArrayLocation:
    place = ArrayLocation(stream.tell(), array.dtype, array.shape)
    stream.write(np.ascontiguousarray(array).data)
    return place


@contextmanager
def _as_run_errors(file: Path, needed: Callable[[], int] | None = None) -> Iterator[None]:
    try:
        with naming_file(file, needed):
            yield
    except OSError as error:
        raise RunError(
            f"cannot keep {file} until the round ends: {error.strerror}; the last committed round is intact: "
            f"{remedy(error)}"
        ) from error
