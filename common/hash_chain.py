"""A hash chain: each line of JSON contains the hash of the line before, so a later change is detected.

hash = SHA-256(canonical JSON of the line without `hash`);  `previous` of the first line is 64 zeros

A line is an entry, which commits the next round, or a return, by which the run went back to the end of an earlier
round: the entries after that no longer count, and stay in the log as history.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from common.errors import JournalError

Entry = dict[str, Any]

RETURN = "return_to"
"""Key of a return: the round that it goes back to. It also has that round's `adapter_hash`, and `left`, the number of
rounds that no longer count."""


@dataclass(frozen=True)
class Chain:
    """A log as read, or as written so far.

    Args:
        entries: of the committed rounds, by number; without those that returns left.
        returned: the last line that is a return; nodes that were away for it need its signature later.
        left: number of rounds that returns have left, in all.
        tip: hash of the last line.
        length: of the log, in bytes.
    """

    entries: tuple[Entry, ...] = ()
    returned: Entry | None = None
    left: int = 0
    tip: str = "0" * 64
    length: int = 0

    def next_line(self, content: Mapping[str, Any]) -> bytes:
        """Return the next line, newline included, with this content.

        Raises:
            ValueError: it contains a number that is not finite.
        """
        linked = {**content, "previous": self.tip}
        return _canonical({**linked, "hash": hashlib.sha256(_canonical(linked)).hexdigest()}) + b"\n"

    def followed_by(self, line: bytes) -> "Chain | None":
        """Return the chain with one more line, newline included; None if `next_line` would not have written it here."""
        try:
            read = json.loads(line)
            fits = isinstance(read, dict) and self.next_line(_content(read)) == line
        except (ValueError, RecursionError):
            return None
        if not fits:
            return None
        length = self.length + len(line)
        if RETURN in read:
            return self._back(read, length)
        if type(read.get("round")) is not int or read["round"] != len(self.entries):
            return None
        return Chain((*self.entries, read), self.returned, self.left, read["hash"], length)

    def _back(self, line: Entry, length: int) -> "Chain | None":
        number, left = line[RETURN], line.get("left")
        if not (type(number) is int and type(left) is int and left > 0 <= number == len(self.entries) - 1 - left):
            return None
        if line.get("adapter_hash") != self.entries[number].get("adapter_hash"):
            return None
        return Chain(self.entries[: number + 1], line, self.left + left, line["hash"], length)


def read_chain(log: bytes, path: Path) -> Chain:
    """Read a log.

    Bytes after the last newline are the start of a line that was never finished, and are left out.

    Raises:
        JournalError: a line was changed after it was written; the message names `path`, the line and the last good
            round.
    """
    *lines, rest = log.split(b"\n")
    chain = Chain()
    for number, line in enumerate(lines, 1):
        chain = chain.followed_by(line + b"\n") or _refuse(path, number, chain)
    if rest and chain.followed_by(rest[:-1] + b"\n"):  # a complete line whose newline was changed
        _refuse(path, len(lines) + 1, chain)
    return chain


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _content(line: Entry) -> Entry:
    return {key: value for key, value in line.items() if key not in ("previous", "hash")}


def _refuse(path: Path, line: int, before: Chain) -> NoReturn:
    number = len(before.entries)
    good = f"the last good round is {number - 1}" if number else "no good round is left"
    raise JournalError(f"{path} line {line} (round {number}) is changed; {good}; restore the file from a copy")
