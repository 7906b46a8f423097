"""Files of keys, all 0600: complete or absent after a crash, private ones never overwritten."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.atomic_files import write_file
from common.errors import IdentityError
from common.identity.keys import disk

LARGEST = 4 << 20
"""Largest file that is read, in bytes; a roster of 10,000 nodes is smaller."""


def create_file(path: Path, data: bytes) -> None:
    """Write a new file at `path`; an existing one stays.

    Raises:
        IdentityError: it already exists, or it cannot be written.
    """
    with disk.as_identity_errors(path):
        write_file(path, data, 0o600, exclusive=True)


def replace_file(path: Path, data: bytes) -> None:
    """Write a public file at `path` in one step, in place of an existing one.

    Raises:
        IdentityError: it cannot be written; the old file is intact.
    """
    with disk.as_identity_errors(path):
        write_file(path, data, 0o600)


def read_private(path: Path) -> bytes:
    """Read the bytes of a private key's file.

    Raises:
        IdentityError: others may read it, it is a link or not a plain file, or it cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | disk.NOT_THROUGH_LINKS  # opening a pipe must not block
    with disk.as_identity_errors(path), os.fdopen(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise IdentityError(f"{path} is not a plain file; put the key itself there")
        disk.refuse_shared(path, mode, "600")
        return file.read(LARGEST)


def read_public(path: Path) -> bytes:
    """Read the bytes of a file that anyone may read.

    Raises:
        IdentityError: it is too large, or cannot be read.
    """
    with disk.as_identity_errors(path), path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise IdentityError(f"{path} is larger than {LARGEST} bytes, so fedlora did not make it; give the right file")
    return data


@contextmanager
def prefix_errors(path: Path) -> Iterator[None]:
    """Put the file's path before errors about its content while the block runs."""
    try:
        yield
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from None
