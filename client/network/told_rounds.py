"""The rounds that a node was told of by the server, kept over restarts.

    keys/NAME.rounds    JSON Lines: run, round, parent, adapter; a line removes what was told of this and later rounds

A line that a crash cut short is skipped: the node then knows less than it was told, and says so at the next notice.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import IdentityError
from common.identity.keys import disk
from common.plain_files import open_plain, read_most
from common.protocol.round_notice import RoundNotice

LARGEST = 8 << 20
"""Largest file in bytes: some 30,000 rounds."""
_LONGEST = 128
"""Characters of a hash in the file, at most; of SHA-256 in hexadecimal they are 64."""

log = logging.getLogger(__name__)


class ToldRound(NamedTuple):
    """The adapters that a round started from and ended with, by their SHA-256."""

    parent: str
    adapter: str


class ToldRounds:
    """What a node was told, by run.

    Args:
        path: of the file, which others may not read.

    Raises:
        IdentityError: it is open to others, not a plain file, too large, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._runs: dict[str, dict[int, ToldRound]] = {}
        data = _read(path)
        self._size = len(data)
        for line in data.splitlines():
            self._read_line(line)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self._runs)

    def of(self, run: str) -> Mapping[int, ToldRound]:
        """Return the rounds of a run in ascending order, by number."""
        return self._runs.get(run, {})

    def add(self, run: str, number: int, told: ToldRound) -> None:
        """Keep a round, in place of it and of all later ones; an error of the disk is logged."""
        line = json.dumps({"run": run, "round": number} | told._asdict()).encode() + b"\n"
        self._put(run, number, told)
        try:
            self._size = append_line(self.path, line)
        except OSError as error:
            log.error("%s: round %s cannot be kept, and is forgotten when the node ends: %s", self.path, number, error)

    def fault(self, notice: RoundNotice) -> str | None:
        """Return why a notice cannot be kept, or None."""
        hashes = notice.run, notice.parent, notice.adapter
        if not all(len(text) <= _LONGEST and (text + "0").isalnum() and text.isascii() for text in hashes):
            return "a hash in the server's notice is none; use the same release on both sides"
        if notice.round >= 2**53:
            return "the number of the round in the server's notice is too large; use the same release on both sides"
        if self._size > LARGEST - 4 * _LONGEST:
            return f"{self.path} is full; move it away, so that the node goes on from what it is told next"
        return None

    def _put(self, run: str, number: int, told: ToldRound) -> None:
        rounds = self._runs.setdefault(run, {})
        for later in [each for each in rounds if each >= number]:
            del rounds[later]
        rounds[number] = told

    def _read_line(self, line: bytes) -> None:
        try:
            plain: Any = json.loads(line)
            texts = [plain[key] for key in ("run", "parent", "adapter")]
            fits = type(plain["round"]) is int and all(isinstance(text, str) for text in texts)
        except (ValueError, KeyError, TypeError, RecursionError):
            fits = False
        if fits:
            self._put(texts[0], plain["round"], ToldRound(*texts[1:]))
        else:
            log.warning("%s: a line of %s bytes is damaged, and is skipped", self.path, len(line))


def _read(path: Path) -> bytes:
    with disk.as_identity_errors(path):
        if not os.path.lexists(path):
            return b""
        with open_plain(path) as file:
            disk.refuse_shared(path, os.fstat(file.fileno()).st_mode, "600")
            data = read_most(file, LARGEST + 1)
    if len(data) > LARGEST:
        raise IdentityError(f"{path} is larger than {LARGEST} bytes; move it away, and the node begins a new one")
    return data


def append_line(path: Path, line: bytes) -> int:
    """Append a line, newline included, behind one that was cut short, and return the size of the file.

    Raises:
        OSError: it was not written, or part of it.
    """
    with open_plain(path, "ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        return os.fstat(file.fileno()).st_size
