"""Files of keys, all 0600: complete or absent after a crash, private ones never overwritten."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.atomic_files import write_file
from common.errors import IdentityError
from common.identity.keys import disk
from common.plain_files import open_plain, read_most

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
    with disk.as_identity_errors(path), open_plain(path) as file:
        disk.refuse_shared(path, os.fstat(file.fileno()).st_mode, "600")
        return read_most(file, LARGEST)


def read_public(path: Path, *, links: bool = False) -> bytes:
    """Read the bytes of a file that anyone may read.

    Args:
        path: of the file.
        links: it may be a symbolic link to the file, as it is not in a folder of keys.

    Raises:
        IdentityError: it is too large, not a plain file, or cannot be read.
    """
    with disk.as_identity_errors(path), open_plain(path, links=links) as file:
        data = read_most(file, LARGEST + 1)
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
