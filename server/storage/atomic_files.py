"""Crash-safe file writes: once a call returns, its effect is on the disk; until then the old file remains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`, completely or not at all.

    Raises:
        OSError: it was not written; no temporary file remains.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that appears at `path` when the block ends, complete, or not at all if the block fails.

    Raises:
        OSError: it was not written; no temporary file remains.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def append_to_file(path: Path, data: bytes, position: int) -> None:
    """Replace the bytes of a file after `position` with `data`.

    Raises:
        OSError: any first part of `data` may have been written; call `truncate_file`.
    """
    with path.open("r+b") as file:
        file.truncate(position)
        file.seek(position)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def truncate_file(path: Path, length: int) -> None:
    """Drop the bytes of a file after the first `length`.

    Raises:
        OSError: some of them may remain.
    """
    append_to_file(path, b"", length)


def _sync_folder(folder: Path) -> None:
    """Make new file names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
