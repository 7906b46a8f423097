"""The folder of a run: closed to others, and without links by which somebody could write or read elsewhere.

Replies and checkpoints can leak text of the training rows.
"""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from common.errors import JournalError
from common.log_format import event
from common.plain_files import check_plain

_OPEN = 0o077
"""Bits of a mode that let others in."""

log = logging.getLogger(__name__)


@contextmanager
def closed_to_others() -> Iterator[None]:
    """Let this process, and those that it starts, make files and folders for their owner alone while the block runs."""
    before = os.umask(_OPEN)
    try:
        yield
    finally:
        os.umask(before)


def close_run(run: Path) -> None:
    """Close the folder of a run to others before something is written there, and check it; say so if it was open.

    A folder that does not exist yet is left to whoever makes it.

    Raises:
        JournalError: it cannot be closed, is not a run's, or contains a link or something else than files and folders.
    """
    opened = _close_folders(run) if run.is_dir() else []
    check_run(run)
    _check_hard_links(run)
    opened += [found for place in _walk(run) if not _is_folder(place) and (found := _close(place, 0o600))]
    if opened:
        _tell(opened)


def _close_folders(run: Path) -> list[tuple[Path, int]]:
    """Close all folders, from the top: from then on nobody can put a link where the check has been."""
    if not _is_run(run) and stat.S_IMODE(run.stat().st_mode) & _OPEN:
        raise JournalError(f"{run} is open to others and is not the folder of a run; choose another, or chmod 700 it")
    places = chain([run.resolve()], _walk(run))  # Not a list: each folder is closed before the walk looks into it.
    return [found for place in places if _is_folder(place) and (found := _close(place, 0o700))]


def _tell(opened: Sequence[tuple[Path, int]]) -> None:
    (place, mode), others = opened[0], len(opened) - 1
    more = f", like {others} files and folders in it" if others else ""
    extra = event("run-closed", path=str(place), mode=f"{mode:04o}", others=others)
    what = "%s was open to others (mode %04o)%s; it is closed now: folders are 0700, files 0600"
    log.warning(what, place, mode, more, extra=extra)


def check_named(run: Path) -> None:
    """Check that what a user names as the folder of a run is a folder; without a word for one that cannot be read.

    Raises:
        JournalError: it does not exist, or is something else, such as a PEFT folder.
    """
    given = "give the folder of a run, as printed by `run: PATH`"
    if not os.path.isdir(run):  # noqa: PTH112  # For a name that is too long, Path raises.
        fault = "is not a folder" if os.path.lexists(run) else "does not exist"
        raise JournalError(f"{run} {fault}; {given}")
    if (run / "adapter_config.json").is_file():
        raise JournalError(f"{run} is an adapter in PEFT's format, not a run; {given}, which contains it")
    if (run / "config.json").is_file():
        raise JournalError(f"{run} is a model, not a run; {given}")


def check_run(run: Path) -> None:
    """Check that a run's folder contains only folders and plain files, and that its path is the user's.

    Raises:
        JournalError: it contains a link, pipe, socket or device, which is named, or leads through somebody's link.
    """
    for place in (run.absolute(), *run.absolute().parents):
        if place.is_symlink() and place.lstat().st_uid not in (0, os.geteuid()):
            raise JournalError(f"{run} leads through {place}, a symbolic link of somebody else; give the path itself")
    for place in _walk(run):
        try:
            if not _is_folder(place):
                check_plain(place)
        except FileNotFoundError:  # A running server has removed it.
            continue
        except OSError as error:
            raise JournalError(
                f"{place} cannot be in the folder of a run: {error.strerror}; remove it, or put the file itself there"
            ) from None


def _is_run(folder: Path) -> bool:
    """Return whether a folder is a run's, or will be; the folders of others are not to be changed."""
    return not any(folder.iterdir()) or any(os.path.lexists(folder / name) for name in ("config.toml", "journal"))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything in a folder by name, a folder before what is in it; what vanishes meanwhile is left out."""
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            for place in sorted(folder.iterdir()):
                yield place
                if _is_folder(place):
                    yield from _walk(place)
        except PermissionError as error:
            raise JournalError(f"{folder} cannot be read: {error.strerror}; give it to this user") from None


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _close(place: Path, right: int) -> tuple[Path, int] | None:
    """Give a file or folder the right mode if others may open it; return it with the mode before."""
    try:
        status = place.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if not mode & _OPEN:
            return None
        place.chmod(right)
    except FileNotFoundError:  # A running server has removed it.
        return None
    except OSError as error:
        raise JournalError(
            f"{place} is open to others (mode {mode:04o}) and cannot be closed, as it belongs to user {status.st_uid} "
            f"({error.strerror}); give it to this user, or choose another folder"
        ) from None
    return place, mode


def _check_hard_links(run: Path) -> None:
    """Check that no file has a name outside the folder too, where a change of the run would be seen.

    Raises:
        JournalError: one has; names it.
    """
    files: dict[Path, os.stat_result] = {}
    for place in _walk(run):
        with suppress(FileNotFoundError):  # A running server has removed it.
            if not _is_folder(place):
                files[place] = place.lstat()
    names = Counter(status.st_ino for status in files.values())
    for place, status in files.items():
        if status.st_nlink > names[status.st_ino]:
            raise JournalError(
                f"{place} is a hard link: the file has another name outside the folder of the run, which would change "
                "too; put a copy of it there"
            )
