"""Authorization: which nodes may take part, and whose replies count, by the project's signed roster."""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from common.errors import IdentityError, JournalError
from common.identity.documents import signatures
from common.identity.documents.roster import Roster, check_successor
from common.identity.project_files import read_project_files
from common.log_format import event
from common.protocol.messages import RejectionReason
from common.protocol.payload import Payload

Keep = Callable[[Roster, bytes], None]
_NONCE = re.compile("[0-9a-f]{32}")

log = logging.getLogger(__name__)


class RosterGuard:
    """Checks nodes against the roster in the project's keys folder, read again after each change for revocations.

    Args:
        keys: the folder.
        roster: the one read at the start; an older one is not accepted afterwards.
        signed: the bytes that it was read from.
        weights: the run's rule; the roster limits tokens if it is `tokens`, else examples.
        keep: makes a newer roster and its bytes durable, before it counts; raises if it cannot, and the last one stays.
    """

    def __init__(
        self, keys: Path, roster: Roster, signed: bytes, weights: str, keep: Keep = lambda roster, signed: None
    ) -> None:
        self._keys, self._roster, self._signed, self._keep = keys, roster, signed, keep
        self._fault = ""
        self._weighed = "tokens" if weights == "tokens" else "examples"
        self._changed = _time(keys)
        self._nonces: set[tuple[str, str]] = set()
        self._reading = Lock()

    @property
    def signed_roster(self) -> bytes:
        """The current roster, as signed."""
        self._read_again()
        return self._signed

    def authorize_node(self, name: str, key: str, rank: int) -> str | None:
        """Return the reason word that bars the node of this name, key and rank from connecting, or None."""
        self._read_again()
        member = self._roster.members.get(name)
        if member is None or member.certificate != key:
            return "unknown"
        state = member.state(datetime.now(UTC))
        if state != "current":
            return state
        return "rank" if rank > member.max_rank else None

    def max_weight(self, name: str) -> int | None:
        """Return the most examples or tokens that the node of this name may report in a round; None if unknown."""
        member = self._roster.members.get(name)
        return member.max_weight if member else None

    def member_names(self) -> list[str]:
        """Return the names of the nodes that may take part now."""
        return [member.name for member in self._roster.current(datetime.now(UTC))]

    def authorize_reply(self, name: str, reply: Payload) -> RejectionReason | None:
        """Return the reason that a reply of the node of this name does not count, or None; the blob is not decoded."""
        values = reply.values
        self._read_again()
        member, roster = self._roster.members.get(name), values.get("roster")
        if member is None or type(roster) is not int or roster > self._roster.version:
            return "signature"
        state = member.state(datetime.now(UTC))
        if state != "current":
            return state
        if not signatures.is_signed_reply(values, reply.blob_hash, self._roster.project, name, member.public_key):
            return "signature"
        # Only after the signature, so that nobody else can use up the nonces of a node.
        nonce = name, str(values["nonce"])
        if not _NONCE.fullmatch(nonce[1]):
            return "signature"
        if nonce in self._nonces:
            return "replay"
        self._nonces.add(nonce)
        if values.get("name", name) != name:
            return "name"
        if _exceeds(values.get("rank", 0), member.max_rank):
            return "rank"
        return "weight" if _exceeds(values.get(self._weighed, 0), member.max_weight) else None

    def _read_again(self) -> None:
        with self._reading:
            if (changed := _time(self._keys)) == self._changed:
                return
            try:
                public = read_project_files(self._keys)
            except IdentityError as error:
                self._say(error)
                return
            try:
                check_successor(self._roster, public.roster)
                self._keep(public.roster, public.signed_roster)
            except IdentityError as error:  # as long as the file is this one
                self._changed = changed
                self._say(error)
                return
            except (JournalError, OSError) as error:
                self._say(error)
                return
            self._changed, self._fault = changed, ""
            self._roster, self._signed = public.roster, public.signed_roster

    def _say(self, error: Exception) -> None:
        """Log why the roster in the folder is not taken, once for each reason."""
        if (fault := str(error)) != self._fault:
            extra = event("roster-kept", keys=str(self._keys), reason=fault)
            log.error("the previous roster stays in use: %s", fault, extra=extra)
        self._fault = fault


def _exceeds(count: Any, most: int) -> bool:
    """Return whether a value is above what the roster allows, or not a count at all: a node may sign anything."""
    return type(count) is not int or count > most


def _time(keys: Path) -> int:
    try:
        return (keys / "roster.json").stat().st_mtime_ns
    except OSError:
        return 0
