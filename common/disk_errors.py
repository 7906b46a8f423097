"""Remedies for errors of the disk: where it is full, which file lacks about how much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

_FULL = (ENOSPC, EDQUOT, EFBIG)


@contextmanager
def naming_file(path: Path, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Let `remedy` name the file that the block writes.

    Args:
        path: of the file.
        needed: returns its size in bytes, where that is known; called only if the disk is full.

    Raises:
        OSError: what the block raised.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and not getattr(error, "__notes__", ()):
            size = f"about {spell_size(needed())}" if needed else "space"
            error.add_note(f"free {size} for {path}")
        raise


def remedy(error: BaseException) -> str:
    """Return what to do about an error of the disk: free so much for a file if it is full, else fix the cause."""
    return next(iter(getattr(error, "__notes__", ())), "fix the cause")


def spell_size(size: int) -> str:
    """Return a number of bytes as people write it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
