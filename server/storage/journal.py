"""The journal of a run: a round is committed, or it did not happen.

    RUN/journal/log.jsonl             one line per round; the line is the commit
                round-000012.state    the server's state after round 12; the newest two are kept
                spool/                replies of the running round
                updates/              replies of earlier rounds, if they are kept (kept_updates.py)
                roster.json           the newest signed roster that the run has seen (seen_roster.py)
                lock                  held by the running process

A commit makes the checkpoint durable, then appends the line that names it and contains its hash. If it is interrupted,
the previous round remains the last one.
"""

import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from common.adapters.adapter import Adapter, Factors
from common.atomic_files import write_file
from common.disk_errors import remedy
from common.errors import JournalError, RunError
from common.hash_chain import RETURN, Chain, Entry
from common.plain_files import open_plain, read_plain
from common.settings.recipe import KeepUpdates
from server.algorithms.state import State
from server.storage import checkpoints, earlier_rounds, kept_updates, spool
from server.storage.journal_reader import as_journal_errors, check_log, log_path
from server.storage.log_file import append_to_file, truncate_file


class Journal:
    """The committed rounds of a run, and its folder, which `open` locks."""

    def __init__(self, folder: Path, chain: Chain, keep_updates: KeepUpdates) -> None:
        self._folder, self._chain, self._keep_updates = folder, chain, keep_updates

    @classmethod
    @contextmanager
    def open(cls, folder: Path, keep_updates: KeepUpdates = "none") -> Iterator[Self]:
        """Yield the journal as of its last committed round; it is empty if it is new.

        Leftovers of a crash are removed. The folder is locked for this process until the end of the `with` block.

        Args:
            folder: of the journal.
            keep_updates: the rounds, counted from the last, whose replies are kept; those of others are removed.

        Raises:
            JournalError: another process has locked the folder, a file is damaged, or it cannot be written.
        """
        with _lock(folder):
            with as_journal_errors(folder):
                chain = _start(folder, keep_updates)
            yield cls(folder, chain, keep_updates)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of the committed rounds, by number; without those that the run left."""
        return self._chain.entries

    @property
    def returned(self) -> Mapping[str, Any] | None:
        """The last line by which the run went back, signed by the server; None if it never did."""
        return self._chain.returned

    def last_state(self) -> State:
        """Load the state of the last committed round, in float64; a part without modules is absent.

        Its factors are read from the checkpoint at each access, which works while that is one of the newest two.

        Raises:
            JournalError: no round was committed, or its checkpoint cannot be read.
        """
        if not self.entries:
            raise JournalError(f"{self._folder} contains no committed round; start the run again")
        entry = self.entries[-1]
        with as_journal_errors(self._folder):
            parts = checkpoints.load_checkpoint(checkpoints.checkpoint_path(self._folder, entry["round"]))
        return state_of(entry, parts)

    def spool_path(self, name: str, phase: int = 1) -> Path:
        """Return the file for the reply of the node `name` in this phase; the commit of this round removes it.

        Raises:
            JournalError: the name is not a valid file name.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise JournalError(f"{name!r} is not a valid file name; give the node another name")
        return spool.spool_path(self._folder / "spool", name, phase)

    def forget_replies(self) -> None:
        """Remove the replies of an attempt at the next round, which another attempt would keep as its own.

        Raises:
            JournalError: they cannot be removed.
        """
        with as_journal_errors(self._folder):
            _empty_spool(self._folder)

    def keep(self, modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> Mapping[str, Adapter]:
        """Write these modules, each with its factors by part, until the commit, and return the parts of the state.

        Raises:
            RunError: they cannot be written.
        """
        return spool.spool_state(self._folder / "spool" / ".state", modules)  # Node names do not begin with a dot.

    def commit(self, state: State, entry: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> None:
        """Make the next round durable, with `entry` as its record; the journal's own keys override equal ones in it.

        Args:
            state: after the round.
            entry: what the log says of it.
            facts: what else the round depended on, kept beside its replies if these are kept.

        Raises:
            JournalError: the state is not that of the next round.
            RunError: it cannot be written, or a number is not finite; the journal is unchanged.
        """
        number = len(self.entries)
        if state.round != number:
            raise JournalError(f"{self._folder}: round {number} is next, not round {state.round}")
        path = checkpoints.checkpoint_path(self._folder, number)
        own = {"round": number, "dropped": state.dropped, "state": path.name} | _step(state)
        with self._undone_on_failure(path):
            own["state_hash"] = checkpoints.save_checkpoint(path, state.parts)
            if number and self._keep_updates != "none":
                before = checkpoints.checkpoint_path(self._folder, number - 1)
                own["kept"] = kept_updates.keep_round(self._folder, number, before, facts or {})
            self._append({**entry, **own})

    def go_back(self, number: int, sign: Callable[[Entry], str]) -> None:
        """Leave the rounds after round `number`, by a line of the log; they remain in it as history.

        Args:
            number: of the round that will be the last one.
            sign: returns the server's signature on the return to the round of this entry.

        Raises:
            JournalError: the round is the last one already, or its checkpoint is not there or damaged; or the disk.
        """
        earlier_rounds.check_return(self._folder, self.entries, number)
        entry = self.entries[number]
        content = {RETURN: number, "adapter_hash": entry["adapter_hash"], "left": len(self.entries) - 1 - number}
        with as_journal_errors(self._folder):
            checkpoints.restore_checkpoint(self._folder, number, earlier_rounds.find_checkpoint(self._folder, entry))
            try:
                self._append({**content, "signature": sign(entry)})
            except OSError:
                with suppress(OSError):
                    truncate_file(log_path(self._folder), self._chain.length)
                raise

    def _append(self, content: Mapping[str, Any]) -> None:
        """Add a line to the log, and remove what it makes superfluous.

        Raises:
            OSError, ValueError: it was not added; part of it may be there.
        """
        line = self._chain.next_line(content)
        after = self._chain.followed_by(line)
        if after is None:
            raise ValueError("the line cannot be read back")
        append_to_file(log_path(self._folder), line, self._chain.length)
        self._chain = after
        # It is committed: files that cannot be removed now are removed at the next commit.
        with suppress(OSError):
            _tidy(self._folder, after, self._keep_updates)

    @contextmanager
    def _undone_on_failure(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            with suppress(OSError):  # in this order, so that no line names a removed checkpoint
                truncate_file(log_path(self._folder), self._chain.length)
                path.unlink(missing_ok=True)
                kept_updates.forget_round(self._folder, len(self.entries))
            number = len(self.entries)
            last = f"round {number - 1} is intact" if number else "no round was committed before"
            message = f"{self._folder}: round {number} is not committed: {error}; {last}"
            raise RunError(f"{message}; {remedy(error)}") from error


def state_of(entry: Entry, parts: Mapping[str, Adapter]) -> State:
    """Return the state after the round of an entry, whose checkpoint has these parts."""
    return State(entry["round"], parts, entry["dropped"], entry.get("step", 0))


def _step(state: State) -> dict[str, int]:
    return {"step": state.step} if state.step else {}


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs; it is made if it does not exist."""
    with as_journal_errors(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        lock = open_plain(folder / "lock", "ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"{folder} is in use by another process ({error.strerror}); wait until it ends"
            ) from None
        yield


def _start(folder: Path, keep_updates: KeepUpdates) -> Chain:
    """Remove everything uncommitted from the folder, and return its log."""
    if not log_path(folder).exists():
        write_file(log_path(folder), b"")
    chain = check_log(folder, read_plain(log_path(folder)))
    truncate_file(log_path(folder), chain.length)
    _tidy(folder, chain, keep_updates)
    return chain


def _tidy(folder: Path, chain: Chain, keep_updates: KeepUpdates) -> None:
    checkpoints.tidy_checkpoints(folder, chain.entries)
    kept_updates.tidy_updates(folder, len(chain.entries), keep_updates)
    _empty_spool(folder)


def _empty_spool(folder: Path) -> None:
    for reply in (folder / "spool").iterdir():
        reply.unlink()
