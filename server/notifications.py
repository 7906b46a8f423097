"""What connected nodes are told unasked: the newest roster, and what the log says of each round, with receipts."""

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
    """What there is to tell now.

    Args:
        journal: of the run.
        door: has the roster.
        credentials: hold the key that signs receipts.
    """

    def __init__(self, journal: Journal, roster_guard: RosterGuard, credentials: ServerCredentials) -> None:
        self._journal, self._door, self._credentials = journal, roster_guard, credentials

    def on_connect(self, name: str) -> list[Payload]:
        """What a node learns when it connects; any thread may ask."""
        return [self.roster_notice(), *([self.round_notice(name)] if self._journal.entries else [])]

    def roster_notice(self) -> Payload:
        """The signed roster as it is now."""
        return Payload({}, self._door.signed_roster)

    def round_notice(self, name: str) -> Payload:
        """The last committed round, for this node."""
        *before, entry = self._journal.entries
        clients = entry["metrics"]["clients"]
        own: Mapping[str, Any] = next(
            (client for client in clients if client["name"] == name), {"status": "", "reason": None}
        )
        accepted = own["status"] == "ok" and own["update"] is not None
        notice = RoundNotice(
            run=entry["config"],
            round=entry["round"],
            parent=before[-1]["adapter_hash"] if before else "",
            adapter=entry["adapter_hash"],
            updates=[client["update"] for client in clients if client["share"]],
            reason=own["reason"] or "",
            weight=own["share"] if accepted else 0.0,
            signature=self._receipt(entry, own) if accepted else "",
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
        )
        return signatures.sign(receipt, self._credentials.receipt_key).hex()


class NoticeBroadcaster(RunObserver):
    """Tells all connected nodes of each round as it is committed, and of each new roster.

    Args:
        grid: reaches them.
        bulletin: what they are told.
    """

    def __init__(self, grid: GrpcGrid, notices: Notices) -> None:
        self._grid, self._bulletin = grid, notices
        self._roster = notices.roster_notice()

    def on_round_started(self, number: int, clients: int) -> None:
        """Tell of a new roster before it counts in a round."""
        self._tell_roster()

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Tell of the round."""
        self._tell_roster()
        self._tell(self._bulletin.round_notice)

    def _tell_roster(self) -> None:
        if (roster := self._bulletin.roster_notice()) != self._roster:
            self._roster = roster
            self._tell(lambda name: roster)

    def _tell(self, notice: Callable[[str], Payload]) -> None:
        for name in self._grid.names():
            self._grid.notify(name, notice(name))
