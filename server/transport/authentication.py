"""Authentication of calls: the certificate names the node, the roster must admit it, and it must not call too often."""

from collections.abc import Callable
from typing import Any, NoReturn

from grpc import StatusCode

from common.errors import FedloraError, TransportError
from server.transport.connections import Connection, Connections
from server.transport.door.refusals import RefusalLog
from server.transport.peer import Peer

NodeCheck = Callable[[str, str, int], str | None]
"""Returns the reason word that bars the node of this name, key (`Peer.key`) and rank from taking part, or None."""


class CallAuthenticator:
    """Ends calls that are rejected, with one reason word that the node can explain.

    Args:
        connections: count the rejections.
        admit: checks a node against the roster.
        refusals: say them in the log.
    """

    def __init__(self, connections: Connections, admit: NodeCheck, refusals: RefusalLog) -> None:
        self._connections, self._authorize_node, self._refusals = connections, admit, refusals

    async def authenticate(self, context: Any) -> Peer:
        """Return the calling node, or end the call."""
        try:
            (pem,) = context.auth_context()["x509_pem_cert"]
            peer = Peer.from_certificate(pem)
        except (KeyError, ValueError, FedloraError):
            self._refusals.refuse("", "certificate", f"a call from {context.peer()} is rejected: certificate")
            await context.abort(StatusCode.UNAUTHENTICATED, "certificate")
        try:
            self._connections.meter(peer.name).call()
        except TransportError:
            await self.abort(peer, "rate", context, StatusCode.RESOURCE_EXHAUSTED)
        return peer

    async def authorize(self, peer: Peer, rank: int, context: Any) -> None:
        """End the call of a node that the roster does not admit, and its connection if it has one."""
        if word := self._authorize_node(peer.name, peer.key, rank):
            if connection := self._connections.find(peer):
                self._connections.leave(connection, "refused")
            await self.abort(peer, word, context, StatusCode.PERMISSION_DENIED)

    def recheck(self, connection: Connection | None) -> None:
        """End the connection of a node that the roster no longer admits, even though the node has not called."""
        if connection and (word := self._authorize_node(connection.peer.name, connection.peer.key, connection.rank)):
            self._note(connection.peer, word)
            self._connections.leave(connection, "refused")

    async def abort(
        self, peer: Peer, word: str, context: Any, status: StatusCode = StatusCode.FAILED_PRECONDITION
    ) -> NoReturn:
        """End the call with a reason word."""
        self._note(peer, word)
        await context.abort(status, word)
        raise AssertionError("abort raises")

    def _note(self, peer: Peer, word: str) -> None:
        self._refusals.refuse(peer.name, word)
        self._connections.meter(peer.name).refused[word] += 1
