"""Plain files, opened so that nothing else can stand in their place.

A pipe, socket, device or folder is refused at once, where opening it could wait for ever; so is a file that is larger
than its kind can be, before it is read; and, in folders that fedlora alone writes, a link.
"""

import os
import stat
from errno import EFBIG, EISDIR, ELOOP, ENXIO
from io import BufferedRandom
from pathlib import Path
from typing import cast

from common.disk_errors import spell_size

SETTINGS = 32 << 20
"""Most bytes of a file of settings; the index of a model of 10,000 tensors has a few percent of it."""

_LEAST = 2**12
"""Bytes that are read at a time, at least."""

_KINDS = {
    stat.S_IFIFO: (ENXIO, "it is a pipe, not a file"),
    stat.S_IFSOCK: (ENXIO, "it is a socket, not a file"),
    stat.S_IFCHR: (ENXIO, "it is a device, not a file"),
    stat.S_IFBLK: (ENXIO, "it is a device, not a file"),
    stat.S_IFDIR: (EISDIR, "it is a folder, not a file"),
    stat.S_IFLNK: (ELOOP, "it is a symbolic link, not a file"),
}


def open_plain(path: Path, mode: str = "rb", *, links: bool = False) -> BufferedRandom:
    """Open a plain file; one that is made is for its owner alone.

    Args:
        path: of the file.
        mode: as for `open`, of bytes.
        links: `path` may be a symbolic link to the file, as a user's own may; else that is an error.

    Raises:
        OSError: there is something else; `strerror` says what.
    """
    follow = 0 if links else os.O_NOFOLLOW

    def opener(name: str, flags: int) -> int:
        if os.path.lexists(name):
            check_plain(Path(name), links=links)  # before, as opening a device may do something
        descriptor = os.open(name, flags | follow | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            _check_kind(os.fstat(descriptor), path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    return cast(BufferedRandom, open(path, mode, opener=opener))


def read_plain(path: Path, most: int | None = None, *, links: bool = False) -> bytes:
    """Return the content of a plain file of at most `most` bytes; `links` as in `open_plain`.

    Raises:
        OSError: it is something else or larger, which `strerror` says, or cannot be read.
    """
    with open_plain(path, links=links) as file:
        if most is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else read_most(file, most + 1)
    if size > most or len(data) > most:
        raise OSError(EFBIG, f"it has more than {spell_size(most)}, the most of such a file", str(path))
    return data


def read_most(file: BufferedRandom, most: int) -> bytes:
    """Return what is in an open file, up to `most` bytes; `read` alone would take memory for as many at once."""
    part = max(2 * os.fstat(file.fileno()).st_size + 1, _LEAST)  # Some files of the system do not tell their size.
    parts: list[bytes] = []
    while most and (data := file.read(min(most, part))):
        parts.append(data)
        most -= len(data)
    return b"".join(parts)


def check_plain(path: Path, *, links: bool = False) -> None:
    """Check that a library may open a path: that a plain file is there; `links` as in `open_plain`.

    Raises:
        OSError: there is something else, which `strerror` says, or nothing.
    """
    _check_kind(path.stat(follow_symlinks=links), path)


def _check_kind(status: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        number, text = _KINDS.get(kind, (ENXIO, "it is not a file"))
        raise OSError(number, text, str(path))
