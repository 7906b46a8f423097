"""A hash chain: each line of JSON contains the hash of the line before, so a later change is detected.

hash = SHA-256(canonical JSON of the line without `hash`);  `previous` of the first line is 64 zeros
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from common.errors import JournalError

Entry = dict[str, Any]


def link_entry(entry: Mapping[str, Any], before: Sequence[Entry]) -> bytes:
    """Return the line, newline included, of an entry that follows the entries `before`.

    Raises:
        ValueError: the entry contains a number that is not finite.
    """
    linked = {**entry, "previous": before[-1]["hash"] if before else "0" * 64}
    return _canonical({**linked, "hash": hashlib.sha256(_canonical(linked)).hexdigest()}) + b"\n"


def read_chain(log: bytes, path: Path) -> tuple[tuple[Entry, ...], int]:
    """Return the entries of a log, numbered by `round` from 0, and their length in bytes.

    Bytes after the last newline are the start of a line that was never finished, and are left out.

    Raises:
        JournalError: a line was changed after it was written; the message names `path`, the line and the last good
            round.
    """
    *lines, rest = log.split(b"\n")
    entries: list[Entry] = []
    for line in lines:
        entries.append(_read_line(line, entries) or _refuse(path, len(entries)))
    if rest and _read_line(rest[:-1], entries):  # a complete line whose newline was changed
        _refuse(path, len(entries))
    return tuple(entries), len(log) - len(rest)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _read_line(line: bytes, before: Sequence[Entry]) -> Entry | None:
    """Return the entry of a line without its newline; None if `link_entry` would not write it after `before`."""
    try:
        entry = json.loads(line)
        fits = isinstance(entry, dict) and entry.get("round") == len(before) and _relink(entry, before) == line + b"\n"
    except (ValueError, RecursionError):
        return None
    return entry if fits else None


def _relink(entry: Entry, before: Sequence[Entry]) -> bytes:
    return link_entry({key: value for key, value in entry.items() if key not in ("previous", "hash")}, before)


def _refuse(path: Path, number: int) -> NoReturn:
    good = f"the last good round is {number - 1}" if number else "no good round is left"
    raise JournalError(f"{path} line {number + 1} (round {number}) is changed; {good}; restore the file from a copy")
