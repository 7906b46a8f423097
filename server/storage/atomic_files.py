"""Files that survive a crash: after a call returns its effect is on the disk, and before that the old file still is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all.

    Raises:
        OSError: it is not there; no temporary file stays behind.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file that is put at `path` when the block ends, whole or, if the block fails, not at all.

    Raises:
        OSError: it is not there; no temporary file stays behind.
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
    """Make the bytes of a file after `position` be `data`.

    Raises:
        OSError: they may be any first part of `data`; call `cut`.
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
        OSError: they may still be there.
    """
    append_to_file(path, b"", length)


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
