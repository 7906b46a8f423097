"""Lines of JSON that each hold the hash of the line before: a line that is changed later no longer fits.

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
    """The line, newline included, of an entry that follows the entries `before`.

    Raises:
        ValueError: the entry holds a number that is not finite.
    """
    linked = {**entry, "previous": before[-1]["hash"] if before else "0" * 64}
    return _canonical({**linked, "hash": hashlib.sha256(_canonical(linked)).hexdigest()}) + b"\n"


def read_chain(log: bytes, path: Path) -> tuple[tuple[Entry, ...], int]:
    """The entries of a log, numbered by `round` from 0, and the bytes that they take.

    What follows the last newline is the start of a line that was never finished, and is left out.

    Raises:
        JournalError: a line was changed after it was written; names `path`, the line and the last good round.
    """
    *lines, rest = log.split(b"\n")
    entries: list[Entry] = []
    for line in lines:
        entries.append(_read_line(line, entries) or _refuse(path, len(entries)))
    if rest and _read_line(rest[:-1], entries):  # a whole line, so its last byte was a newline once
        _refuse(path, len(entries))
    return tuple(entries), len(log) - len(rest)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _read_line(line: bytes, before: Sequence[Entry]) -> Entry | None:
    """The entry of a line without its newline; None if it isn't what `seal` writes after `before`."""
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
