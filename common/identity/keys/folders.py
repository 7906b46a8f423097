"""Folders of keys: closed to others, made completely or not at all, used by one command at a time."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from common.atomic_files import make_atomically, remove_leftovers, write_file
from common.identity.keys import disk


def make(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder with these files, completely or not at all; an empty folder of this name is replaced.

    Raises:
        IdentityError: it contains files, or cannot be made.
    """
    with disk.as_identity_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with make_atomically(folder) as fresh:
            fresh.mkdir(mode=0o700)
            for name, data in contents.items():
                write_file(fresh / name, data, 0o600)


def ensure(folder: Path) -> None:
    """Make a folder that only its owner may enter, if it does not exist.

    Raises:
        IdentityError: it cannot be made.
    """
    with disk.as_identity_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs; temporary files that a crash left there are removed.

    Raises:
        IdentityError: others may enter the folder, or it cannot be used.
    """
    check_closed(folder)
    with disk.as_identity_errors(folder), disk.open_folder(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        remove_leftovers(folder)
        yield


def check_closed(folder: Path) -> None:
    """Check that a folder is closed to others.

    Raises:
        IdentityError: others may enter it, or it does not exist.
    """
    with disk.as_identity_errors(folder):
        disk.refuse_shared(folder, folder.stat().st_mode, "700")
