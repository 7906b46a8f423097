"""Steps on the disk that files and folders of keys share; each fault has one message with its remedy."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from common.errors import IdentityError

_FAULTS = {
    errno.ENOENT: "does not exist; give the right path: a folder of keys with --dir, or as `keys` in the TOML file",
    errno.EEXIST: "already exists and is never overwritten; give another folder with --dir",
    errno.ENOTEMPTY: "contains files, which are never overwritten; give another folder with --dir",
    errno.ENXIO: "is not a plain file; put the file itself there",
    errno.ENOTDIR: "is not a folder, or is in one that is not; give another with --dir",
    errno.EISDIR: "is a folder; put the file itself there",
    errno.ELOOP: "is a symbolic link; put the file itself there",
}


@contextmanager
def as_identity_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors about this path into `IdentityError` while the block runs."""
    try:
        yield
    except OSError as error:
        fault = _FAULTS.get(error.errno or 0, f"{error.strerror}; fix that, then run the command again")
        raise IdentityError(f"{path}: {fault}") from None


def refuse_shared(path: Path, mode: int, right: str) -> None:
    """Check that a mode gives others no access; `right` is the mode to set.

    Raises:
        IdentityError: it gives them access.
    """
    if mode & 0o077:
        found = f"{stat.S_IMODE(mode):04o}"
        raise IdentityError(f"{path} is open to others (mode {found}); run: chmod {right} {quote(str(path))}")


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """Open a folder's descriptor while the block runs.

    Raises:
        OSError: it is not a folder, or cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
