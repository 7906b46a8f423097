"""Who may call: a node is who its certificate says, if the roster admits it and it does not call too often."""

import logging
from collections.abc import Callable
from typing import Any, NoReturn

from grpc import StatusCode

from common.errors import FedloraError, TransportError
from server.transport.connections import Connection, Connections
from server.transport.peer import Peer

NodeCheck = Callable[[str, str, int], str | None]
"""Why the node of this name, key (`Peer.key`) and rank may not take part, in one word; None if it may."""

log = logging.getLogger(__name__)


class CallAuthenticator:
    """Ends calls that are refused, with one word that the node can explain.

    Args:
        connections: where refusals are counted.
        admit: the roster.
    """

    def __init__(self, connections: Connections, admit: NodeCheck) -> None:
        self._connections, self._authorize_node = connections, admit

    async def authenticate(self, context: Any) -> Peer:
        """Who calls."""
        try:
            (pem,) = context.auth_context()["x509_pem_cert"]
            peer = Peer.from_certificate(pem)
        except (KeyError, ValueError, FedloraError):
            await context.abort(StatusCode.UNAUTHENTICATED, "certificate")
        try:
            self._connections.meter(peer.name).call()
        except TransportError:
            await self.abort(peer, "rate", context, StatusCode.RESOURCE_EXHAUSTED)
        return peer

    async def authorize(self, peer: Peer, rank: int, context: Any) -> None:
        """Let nobody on whom the roster does not admit; one that was admitted before is gone."""
        if word := self._authorize_node(peer.name, peer.key, rank):
            if connection := self._connections.find(peer):
                self._connections.leave(connection, "refused")
            await self.abort(peer, word, context, StatusCode.PERMISSION_DENIED)

    def recheck(self, connection: Connection | None) -> None:
        """End a connection that the roster no longer admits, though nothing came from it."""
        if connection and (word := self._authorize_node(connection.peer.name, connection.peer.key, connection.rank)):
            self._note(connection.peer, word)
            self._connections.leave(connection, "refused")

    async def abort(
        self, peer: Peer, word: str, context: Any, status: StatusCode = StatusCode.FAILED_PRECONDITION
    ) -> NoReturn:
        """End the call."""
        self._note(peer, word)
        await context.abort(status, word)
        raise AssertionError("abort raises")

    def _note(self, peer: Peer, word: str) -> None:
        log.warning("node %s is refused: %s", peer.name, word)
        self._connections.meter(peer.name).refused[word] += 1
