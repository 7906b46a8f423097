"""Notices to connected nodes: the current roster, and the log entry of each committed round, with receipts."""

from collections.abc import Callable, Mapping
from typing import Any

from common.identity.credentials import ServerCredentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice
from server.rounds.observer import RunObserver
from server.storage.journal import Journal
from server.transport.authorization import RosterGuard
from server.transport.grid import GrpcGrid


class Notices:
    """Makes the notices for each node, from the current roster and journal.

    Args:
        journal: of the run.
        roster_guard: has the current roster.
        credentials: contain the key that signs receipts.
    """

    def __init__(self, journal: Journal, roster_guard: RosterGuard, credentials: ServerCredentials) -> None:
        self._journal, self._roster_guard, self._credentials = journal, roster_guard, credentials

    def on_connect(self, name: str) -> list[Payload]:
        """Return the notices for a node that connects; safe to call from any thread."""
        return [self.roster_notice(), *([self.round_notice(name)] if self._journal.entries else [])]

    def roster_notice(self) -> Payload:
        """Return the current signed roster."""
        return Payload({}, self._roster_guard.signed_roster)

    def round_notice(self, name: str) -> Payload:
        """Return the last committed round, for this node."""
        *before, entry = self._journal.entries
        clients = entry["metrics"]["clients"]
        own: Mapping[str, Any] = next(
            (client for client in clients if client["name"] == name), {"status": "", "reason": None}
        )
        accepted, returned = _counts(own), self._journal.returned
        notice = RoundNotice(
            run=entry["config"],
            round=entry["round"],
            parent=before[-1]["adapter_hash"] if before else "",
            adapter=entry["adapter_hash"],
            updates=[client["update"] for client in clients if _counts(client)],
            reason=own["reason"] or "",
            weight=own["share"] if accepted else 0.0,
            signature=self._receipt(entry, own) if accepted else "",
            clip=_clip(own),
            returned=returned["signature"] if returned else "",
        )
        return Payload(notice.to_values())

    def _receipt(self, entry: Mapping[str, Any], client: Mapping[str, Any]) -> str:
        receipt = Receipt(
            project=self._credentials.project,
            run=entry["config"],
            round=entry["round"],
            node=client["name"],
            blob_hash=client["update"],
            weight=client["share"],
            adapter_hash=entry["adapter_hash"],
            clip=_clip(client),
        )
        return signatures.sign(receipt, self._credentials.receipt_key).hex()


def _counts(client: Mapping[str, Any]) -> bool:
    """Return whether a client's update is in the sum; in round 0, all are "ok" and nobody has trained yet."""
    return client["status"] == "ok" and client["update"] is not None


def _clip(client: Mapping[str, Any]) -> float:
    """Return the factor on a client's update; rounds of earlier releases were not clipped, and have none."""
    return float(client.get("clip", 1.0))


class NoticeBroadcaster(RunObserver):
    """Sends all connected nodes each round as it is committed, and each new roster.

    Args:
        grid: has the connections to them.
        notices: makes what is sent.
    """

    def __init__(self, grid: GrpcGrid, notices: Notices) -> None:
        self._grid, self._notices = grid, notices
        self._roster = notices.roster_notice()

    def on_round_started(self, number: int, clients: int) -> None:
        """Send a new roster before it applies to a round."""
        self._send_roster()

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Send the round."""
        self._send_roster()
        self._send(self._notices.round_notice)

    def _send_roster(self) -> None:
        if (roster := self._notices.roster_notice()) != self._roster:
            self._roster = roster
            self._send(lambda name: roster)

    def _send(self, notice: Callable[[str], Payload]) -> None:
        for name in self._grid.names():
            self._grid.notify(name, notice(name))
