"""Who may take part, by the project's signed roster, and whose reply counts."""

import hashlib
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from common.errors import IdentityError
from common.identity.documents import signatures
from common.identity.documents.roster import Roster
from common.identity.project_files import read_project_files
from common.protocol.messages import RejectionReason

_NONCE = re.compile("[0-9a-f]{32}")

log = logging.getLogger(__name__)


class RosterGuard:
    """Asks the roster in the project's folder of keys, read again whenever it changes, so that a revocation counts.

    Args:
        keys: the folder.
        roster: as it was read at the start; no older one is taken afterwards.
        signed: the bytes that it was read from.
        weights: the run's rule; by tokens, it is those that the roster limits, else the examples.
    """

    def __init__(self, keys: Path, roster: Roster, signed: bytes, weights: str) -> None:
        self._keys, self._roster, self._signed = keys, roster, signed
        self._weighed = "tokens" if weights == "tokens" else "examples"
        self._changed = _time(keys)
        self._nonces: set[tuple[str, str]] = set()
        self._reading = Lock()

    @property
    def signed_roster(self) -> bytes:
        """The roster that counts now, as its key signed it."""
        self._read_again()
        return self._signed

    def authorize_node(self, name: str, key: str, rank: int) -> str | None:
        """Why the node of this name and key, with this rank, may not connect, in one word; None if it may."""
        self._read_again()
        member = self._roster.members.get(name)
        if member is None or member.certificate != key:
            return "unknown"
        state = member.state(datetime.now(UTC))
        if state != "current":
            return state
        return "rank" if rank > member.max_rank else None

    def authorize_reply(self, name: str, values: Mapping[str, Any], blob: bytes) -> RejectionReason | None:
        """Why a reply of the node of this name does not count; looked at before its blob is decoded."""
        if reason := self._reject_reply(name, values, blob):
            log.warning("a reply of node %s does not count: %s", name, reason)
        return reason

    def _reject_reply(self, name: str, values: Mapping[str, Any], blob: bytes) -> RejectionReason | None:
        self._read_again()
        member, roster = self._roster.members.get(name), values.get("roster")
        if member is None or type(roster) is not int or roster > self._roster.version:
            return "signature"
        state = member.state(datetime.now(UTC))
        if state != "current":
            return state
        if not signatures.is_signed_reply(
            values, hashlib.sha256(blob).hexdigest(), self._roster.project, name, member.public_key
        ):
            return "signature"
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
                log.error("the roster of before stays: %s", error)
                return
            self._changed = changed
            if public.roster.version < self._roster.version:
                log.error("the roster of before stays: %s holds an older one", self._keys)
                return
            self._roster, self._signed = public.roster, public.signed_roster


def _exceeds(count: Any, most: int) -> bool:
    """Whether a count is above what the roster allows, or none: a node may sign anything."""
    return type(count) is not int or count > most


def _time(keys: Path) -> int:
    try:
        return (keys / "roster.json").stat().st_mtime_ns
    except OSError:
        return 0
