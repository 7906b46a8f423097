"""Durable changes at the end of a file: once a call returns, its effect is on the disk."""

import os
from pathlib import Path

from common.disk_errors import naming_file
from common.plain_files import open_plain


def append_to_file(path: Path, data: bytes, position: int) -> None:
    """Replace the bytes of a file after `position` with `data`.

    Raises:
        OSError: any first part of `data` may have been written; call `truncate_file`.
    """
    with naming_file(path, lambda: len(data)), open_plain(path, "r+b") as file:
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
