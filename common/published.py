"""The published adapter of a run, compared with the last committed line of the run's log.

RUN/journal/log.jsonl   "files": the SHA-256 of each file in adapter/
RUN/adapter/            of the last committed round
"""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

from common.errors import JournalError
from common.hash_chain import Entry, read_chain
from common.plain_files import open_plain, read_plain

SETTLE, POLL = 5.0, 0.05
"""Seconds after a commit in which a running server may still be writing the adapter, and between two looks."""


def check_published(run: Path) -> None:
    """Compare the files in a run's `adapter/` with its last committed round.

    A folder without a log, and a log of a release that recorded no hashes, leave nothing to compare.

    Raises:
        JournalError: a file was changed or is missing; names it, the round and the remedy. Or the log was changed.
    """
    log = run / "journal" / "log.jsonl"
    while (fault := _find_fault(run / "adapter", log)) and 0 <= time.time() - log.stat().st_mtime < SETTLE:
        time.sleep(POLL)
    if fault:
        raise JournalError(fault)


def file_hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file's content, by its name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def find_change(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """Return a file of a folder that does not have its SHA-256, and its condition; None if all have it.

    Raises:
        OSError: a file that is there cannot be read.
    """
    for name, expected in hashes.items():
        try:
            with open_plain(folder / name) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return f"{folder / name} is missing"
        if found != expected:
            return f"{folder / name} is changed"
    return None


def _find_fault(adapter: Path, log: Path) -> str | None:
    entry = _last_entry(log)
    change = find_change(adapter, entry["files"]) if entry and "files" in entry else None
    return change and (
        f"{change}: it is not what round {entry['round'] if entry else 0} published; run the command again that made "
        "this run, which publishes it anew, or restore the file from a copy"
    )


def _last_entry(log: Path) -> Entry | None:
    if not log.is_file():
        return None
    entries = read_chain(read_plain(log), log).entries
    return entries[-1] if entries else None
