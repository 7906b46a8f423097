"""Files and folders written beside their place and moved there: complete, or the old one remains.

What a killed process leaves is hidden and ends in .tmp; `remove_leftovers` removes it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from common.disk_errors import naming_file


def write_file(path: Path, data: bytes, mode: int = 0o666, *, exclusive: bool = False, durable: bool = True) -> None:
    """Write a file in one step; the arguments are those of `open_atomically`.

    Raises:
        OSError: it was not written; no temporary file remains.
    """
    with (
        naming_file(path, lambda: len(data)),
        open_atomically(path, mode, exclusive=exclusive, durable=durable) as file,
    ):
        file.write(data)


@contextmanager
def open_atomically(
    path: Path, mode: int = 0o666, *, exclusive: bool = False, durable: bool = True
) -> Iterator[BinaryIO]:
    """Yield a file that appears at `path` when the block ends, complete, or not at all if the block fails.

    Args:
        path: of the file; one that exists is replaced.
        mode: of the file, from the first byte on, less the umask.
        exclusive: an existing file stays, and is an error.
        durable: file and name are on the disk once the block has ended; otherwise a crash of the system may lose both.

    Raises:
        OSError: it was not written; no temporary file remains.
    """
    with _beside(path) as temporary:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if exclusive:
            path.hardlink_to(temporary)  # unlike a rename, it never replaces
        else:
            temporary.replace(path)
    if durable:
        _sync(path.parent)


@contextmanager
def make_atomically(path: Path) -> Iterator[Path]:
    """Yield a free name; the file or folder that the block makes there is moved to `path`, complete and on the disk.

    Raises:
        OSError: it was not moved, as to a folder with files, which is never replaced; nothing temporary remains.
    """
    with _beside(path) as temporary:
        yield temporary
        for made in (*temporary.rglob("*"), temporary):
            _sync(made)
        temporary.replace(path)
    _sync(path.parent)


def move_folder(made: Path, path: Path) -> None:
    """Move a folder that is complete to a new name beside it, with all of its files on the disk.

    Raises:
        OSError: it was not moved, as to a folder with files, which is never replaced.
    """
    for each in (*made.rglob("*"), made):
        _sync(each)
    made.replace(path)
    _sync(path.parent)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a free name; the folder that the block makes there takes the place of one at `path`, complete.

    Nobody ever finds files of both there. Killed between two moves, there is none, until `restore_folder` is called.

    Raises:
        OSError: it was not moved.
    """
    with _beside(path) as temporary:
        yield temporary
        for made in (*temporary.rglob("*"), temporary):
            _sync(made)
        _remove(_old(path))
        if path.exists():
            path.replace(_old(path))
        temporary.replace(path)
    _remove(_old(path))
    _sync(path.parent)


def restore_folder(path: Path) -> None:
    """Bring back a folder that was about to be replaced when the process was killed; only while no other writes there.

    Raises:
        OSError: it cannot be moved.
    """
    if not path.exists() and _old(path).exists():
        _old(path).replace(path)


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def link_or_copy(path: Path, source: Path) -> None:
    """Let a new file have the content of another that is never changed in place, if possible without more space.

    Raises:
        OSError: it cannot be made; part of it may be there.
    """
    with naming_file(path, lambda: source.stat().st_size):
        try:
            path.hardlink_to(source)
        except OSError:  # The disk knows no hard links.
            shutil.copyfile(source, path)


def remove_folder(path: Path) -> None:
    """Remove a folder with its files; killed in between, it is gone and leaves something for `remove_leftovers`.

    Raises:
        OSError: something cannot be removed.
    """
    with _beside(path) as temporary:
        path.replace(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a folder; only while no other process writes there.

    Raises:
        OSError: something cannot be removed.
    """
    for path in folder.glob(".*.tmp"):
        _remove(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    whole = path.absolute()
    temporary = whole.with_name(f".{whole.name}.{token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
