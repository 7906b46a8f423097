"""Reading a journal (journal.py), without changing it: its log, checked line by line, and its newest checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.disk_errors import remedy
from common.errors import JournalError
from common.hash_chain import Chain, Entry, read_chain
from common.plain_files import open_plain, read_plain
from server.storage import checkpoints


def verify_journal(folder: Path) -> tuple[Entry, ...]:
    """Check every line and checkpoint of a journal, and return the entries of its committed rounds."""
    return verify_chain(folder).entries


def verify_chain(folder: Path) -> Chain:
    """Check every line of a journal's log, and the newest checkpoints, and return the log.

    Changes nothing, and may run beside the process that writes. A last line that was never finished does not count.

    Raises:
        JournalError: there is no journal, or a file of it was changed; names it, its round and the last good round.
    """
    if not log_path(folder).is_file():
        raise JournalError(
            f"{folder.parent} is not a run: it has no journal; give the folder that the last line of a run names"
        )
    with as_journal_errors(folder):
        while True:
            log = read_plain(log_path(folder))
            try:
                return check_log(folder, log)
            except JournalError:
                if read_plain(log_path(folder)) == log:  # else the run went on meanwhile
                    raise


def has_begun(folder: Path) -> bool:
    """Return whether a round was committed; without the lock and without checks."""
    with as_journal_errors(folder), suppress(FileNotFoundError), open_plain(log_path(folder)) as log:
        return log.readline().endswith(b"\n")
    return False


def begun_modules(folder: Path) -> tuple[str, ...]:
    """Return the names of the modules that a run has begun with; none before its first round is committed.

    Raises:
        JournalError: a file was changed, or cannot be read.
    """
    if not has_begun(folder):
        return ()
    last = verify_journal(folder)[-1]
    with as_journal_errors(folder):
        return tuple(checkpoints.load_checkpoint(checkpoints.checkpoint_path(folder, last["round"]))["global"])


def check_log(folder: Path, log: bytes) -> Chain:
    """Check the content of a journal's log, and the newest checkpoints, and return the log.

    Raises:
        JournalError: a file was changed; names it, its round and the last good round.
        OSError: a checkpoint cannot be read.
    """
    chain = read_chain(log, log_path(folder))
    for entry in chain.entries:
        if not (isinstance(entry.get("state_hash"), str) and type(entry.get("dropped")) in (int, float)):
            raise JournalError(
                f"{log_path(folder)} (round {entry['round']}) lacks the hash of its state, which every release writes; "
                "restore the file from a copy"
            )
    checkpoints.check_checkpoints(folder, chain)
    return chain


@contextmanager
def as_journal_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one of the journal in this folder, with a remedy."""
    try:
        yield
    except OSError as error:
        raise JournalError(f"{folder} cannot be used as a journal: {error}; {remedy(error)}, then try again") from error


def log_path(folder: Path) -> Path:
    """Return the path of the log of the journal in this folder."""
    return folder / "log.jsonl"
