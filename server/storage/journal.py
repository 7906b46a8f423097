"""The journal of a run: a round is committed, or it did not happen.

    RUN/journal/log.jsonl             one line per round; the line is the commit
                round-000012.state    the server's state after round 12; the newest two are kept
                spool/                replies of the running round
                lock                  held by the running process

A commit makes the checkpoint durable, then appends the line that names it and contains its hash. If it is interrupted,
the previous round remains the last one.
"""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from common.adapters.adapter import Adapter, Factors
from common.atomic_files import write_file
from common.errors import JournalError, RunError
from server.algorithms.state import State
from server.storage import checkpoints, spool
from server.storage.hash_chain import Entry, link_entry, read_chain
from server.storage.log_file import append_to_file, truncate_file


class Journal:
    """The committed rounds of a run, and its folder, which `open` locks."""

    def __init__(self, folder: Path, entries: tuple[Entry, ...], length: int) -> None:
        self._folder, self._entries, self._length = folder, entries, length

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Self]:
        """Yield the journal as of its last committed round; it is empty if it is new.

        Leftovers of a crash are removed. The folder is locked for this process until the end of the `with` block.

        Raises:
            JournalError: another process has locked the folder, a file is damaged, or it cannot be written.
        """
        with _lock(folder):
            with _as_journal_errors(folder):
                entries, length = _start(folder)
            yield cls(folder, entries, length)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The committed entries, one per round."""
        return self._entries

    @property
    def returned(self) -> Mapping[str, Any] | None:
        """The line by which the run last went back to an earlier round, if it did; signed by the server."""
        return None

    def last_state(self) -> State:
        """Load the state of the last committed round, in float64; a part without modules is absent.

        Its factors are read from the checkpoint at each access, which works while that is one of the newest two.

        Raises:
            JournalError: no round was committed, or its checkpoint cannot be read.
        """
        if not self._entries:
            raise JournalError(f"{self._folder} contains no committed round; start the run again")
        entry = self._entries[-1]
        with _as_journal_errors(self._folder):
            parts = checkpoints.load_checkpoint(checkpoints.checkpoint_path(self._folder, entry["round"]))
        return State(entry["round"], parts, entry["dropped"])

    def spool_path(self, name: str, phase: int = 1) -> Path:
        """Return the file for the reply of the node `name` in this phase; the commit of this round removes it.

        Raises:
            JournalError: the name is not a valid file name.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise JournalError(f"{name!r} is not a valid file name; give the node another name")
        return self._folder / "spool" / (name if phase == 1 else f".{phase}.{name}")  # Names do not begin with a dot.

    def keep(self, modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> Mapping[str, Adapter]:
        """Write these modules, each with its factors by part, until the commit, and return the parts of the state.

        Raises:
            RunError: they cannot be written.
        """
        return spool.spool_state(self._folder / "spool" / ".state", modules)  # Node names do not begin with a dot.

    def commit(self, state: State, entry: Mapping[str, Any]) -> None:
        """Make the next round durable, with `entry` as its record; the journal's own keys override equal ones in it.

        Raises:
            JournalError: the state is not that of the next round.
            RunError: it cannot be written, or a number is not finite; the journal is unchanged.
        """
        if state.round != len(self._entries):
            raise JournalError(f"{self._folder}: round {len(self._entries)} is next, not round {state.round}")
        path = checkpoints.checkpoint_path(self._folder, state.round)
        own = {"round": state.round, "dropped": state.dropped, "state": path.name}
        with self._undone_on_failure(path):
            own["state_hash"] = checkpoints.save_checkpoint(path, state.parts)
            line = link_entry({**entry, **own}, self._entries)
            append_to_file(_log(self._folder), line, self._length)
        self._entries, self._length = (*self._entries, json.loads(line)), self._length + len(line)
        # The round is committed: files that cannot be removed now are removed at the next commit.
        with suppress(OSError):
            _tidy(self._folder, self._entries)

    @contextmanager
    def _undone_on_failure(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            with suppress(OSError):  # in this order, so that no line names a removed checkpoint
                truncate_file(_log(self._folder), self._length)
                path.unlink(missing_ok=True)
            number = len(self._entries)
            last = f"round {number - 1} is intact" if number else "no round was committed before"
            message = f"{self._folder}: round {number} is not committed: {error}; {last}"
            raise RunError(f"{message}; fix the cause, then run again (a simulation: with --resume)") from error


def verify_journal(folder: Path) -> tuple[Entry, ...]:
    """Check every line and kept checkpoint of a journal, and return its committed entries.

    Changes nothing. A last line that was never finished does not count.

    Raises:
        JournalError: there is no journal, or a file of it was changed; names it, its round and the last good round.
    """
    if not _log(folder).is_file():
        raise JournalError(
            f"{folder.parent} is not a run: it has no journal; give the folder that the last line of a run names"
        )
    with _as_journal_errors(folder):
        return _read(folder)[0]


def has_begun(folder: Path) -> bool:
    """Return whether a round was committed; without the lock and without checks."""
    with _as_journal_errors(folder), suppress(FileNotFoundError), _log(folder).open("rb") as log:
        return log.readline().endswith(b"\n")
    return False


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs; it is made if it does not exist."""
    with _as_journal_errors(folder):
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"{folder} is in use by another process ({error.strerror}); wait until it ends"
            ) from None
        yield


@contextmanager
def _as_journal_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"{folder} cannot be used as a journal: {error}") from error


def _start(folder: Path) -> tuple[tuple[Entry, ...], int]:
    """Remove everything uncommitted from the folder; return the entries and their length in the log."""
    if not _log(folder).exists():
        write_file(_log(folder), b"")
    entries, length = _read(folder)
    truncate_file(_log(folder), length)
    _tidy(folder, entries)
    return entries, length


def _read(folder: Path) -> tuple[tuple[Entry, ...], int]:
    entries, length = read_chain(_log(folder).read_bytes(), _log(folder))
    checkpoints.check_checkpoints(folder, entries)
    return entries, length


def _tidy(folder: Path, entries: Sequence[Entry]) -> None:
    checkpoints.tidy_checkpoints(folder, entries)
    for reply in (folder / "spool").iterdir():
        reply.unlink()


def _log(folder: Path) -> Path:
    return folder / "log.jsonl"
