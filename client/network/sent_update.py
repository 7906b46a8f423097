"""The update that a node has sent and has no receipt for yet, kept over restarts in `keys/NAME.sent`, a JSON object."""

import json
import logging
from pathlib import Path
from typing import NamedTuple, Self

from common.atomic_files import write_file
from common.plain_files import open_plain

_LARGEST = 4096
"""Bytes of the file, at most."""

log = logging.getLogger(__name__)


class SentUpdate(NamedTuple):
    """The update that no round notice has reported on yet."""

    run: str
    round: int
    blob_hash: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the update in this file; None if there is none, or it is not one."""
        try:
            with open_plain(path) as file:
                run, number, blob_hash = json.loads(file.read(_LARGEST))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        known = isinstance(run, str) and type(number) is int and isinstance(blob_hash, str)
        return cls(run, number, blob_hash) if known else None

    @staticmethod
    def forget(path: Path) -> None:
        """Remove what is kept, once the server has reported on it."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("%s cannot be removed: %s", path, error)

    def write(self, path: Path) -> None:
        """Keep the update; without it, a node that restarts before its receipt comes does not know it as its own."""
        try:
            write_file(path, json.dumps(self).encode(), 0o600, durable=False)
        except OSError as error:
            log.error("%s cannot be written: %s", path, error)
