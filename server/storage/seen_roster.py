"""The newest signed roster that a run has seen, `RUN/journal/roster.json`: the server takes no older one again.

Journals of earlier releases have none; they begin with the roster that the server is started with.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.atomic_files import write_file
from common.errors import IdentityError, JournalError
from common.identity.documents.roster import Roster, check_successor, read_roster
from common.identity.keys import files


class SeenRoster:
    """Keeps the newest roster of a run.

    Args:
        journal: the folder of the run's journal, which this process has locked.
        key: the project's, which signs its rosters.
    """

    def __init__(self, journal: Path, key: Ed25519PublicKey) -> None:
        self._path, self._key = journal / "roster.json", key

    def keep(self, roster: Roster, signed: bytes) -> None:
        """Make a roster durable as the newest, before a node is admitted by it.

        Args:
            roster: the one in `signed`.
            signed: the content of its file.

        Raises:
            IdentityError: it is older than the newest, or contradicts it.
            JournalError: the newest cannot be read.
            OSError: it cannot be written.
        """
        if (newest := self._read()) is None or check_successor(newest, roster) != newest:
            write_file(self._path, signed, 0o600)

    def _read(self) -> Roster | None:
        if not self._path.exists():
            return None
        try:
            return read_roster(files.read_public(self._path), self._key)
        except IdentityError as error:
            raise JournalError(
                f"{self._path}: {error}; it shows which rosters this run has seen: put it back from a backup, or, if "
                "the keys have the project's newest roster.json, remove it"
            ) from None
