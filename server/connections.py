"""Which nodes are connected. All but `numbers` is for the thread of the event loop."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from server.limits import Limits, Meter
from server.peer import Peer

End = Literal["over", "closing", "replaced", "malformed", "refused", "gone"]
"""Why a stream ends: the run is over, the server stops before that, the node connected again, it sent nonsense, it is
no longer admitted, it hung up."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Connection:
    """A node's open stream.

    Args:
        number: Flower's number for the node; new at each connection, so that one that comes back is asked again who it
            is.
        peer: who it is.
        rank: the largest rank that it announced.
        outbox: the frames of each message to it, with the message's round, which a notice does not have; or why the
            stream ends.
    """

    number: int
    peer: Peer
    rank: int
    outbox: asyncio.Queue[tuple[str, Iterator[bytes]] | End] = field(default_factory=asyncio.Queue)


class Connections:
    """Connected nodes, each once.

    Args:
        lost: told the number of a node that is gone.
        limits: of each node.
    """

    def __init__(self, lost: Callable[[int], None], limits: Limits) -> None:
        self._lost, self._limits = lost, limits
        self._open: dict[int, Connection] = {}
        self._next = count(2)  # Flower's number 1 is the server.
        self.meters: dict[str, Meter] = {}

    def numbers(self) -> list[int]:
        """Of the connected nodes, in the order in which they came."""
        return list(self._open)

    def meter(self, name: str) -> Meter:
        """What a node sends; it outlives its connections."""
        return self.meters.setdefault(name, Meter(self._limits))

    def of(self, peer: Peer) -> Connection | None:
        """The peer's connection."""
        return next((each for each in self._open.values() if each.peer == peer), None)

    def enter(self, peer: Peer, rank: int) -> Connection:
        """The peer's new connection. It replaces an older one, which may hang for half a minute where a network broke.

        Whoever holds the node's key is the node, and the older stream ends with a word that tells a second process.
        """
        for each in [each for each in self._open.values() if each.peer.name == peer.name]:
            self.leave(each, "replaced")
        connection = Connection(next(self._next), peer, rank)
        self._open[connection.number] = connection
        log.info("node %s is connected", peer.name)
        return connection

    def leave(self, connection: Connection, why: End) -> None:
        """End a connection; nothing if it has ended."""
        if self._open.pop(connection.number, None):
            log.info("node %s: %s", connection.peer.name, why)
            left = [connection.outbox.get_nowait() for _ in range(connection.outbox.qsize())]
            for item in left if why == "over" else ():
                if not isinstance(item, str) and not item[0]:  # A notice: the log of the last round.
                    connection.outbox.put_nowait(item)
            connection.outbox.put_nowait(why)
            self._lost(connection.number)

    def leave_all(self, why: End) -> None:
        """End every connection."""
        for connection in list(self._open.values()):
            self.leave(connection, why)

    def names(self) -> list[str]:
        """Of the connected nodes."""
        return [connection.peer.name for connection in list(self._open.values())]

    def notify(self, name: str, frames: Iterator[bytes]) -> None:
        """Send a notice to the node of this name, if it is connected."""
        for connection in self._open.values():
            if connection.peer.name == name:
                connection.outbox.put_nowait(("", frames))

    def send(self, number: int, group: str, frames: Iterator[bytes]) -> None:
        """Send a message of this round to a node; if it is not connected, it is told as lost once more."""
        if number in self._open:
            self._open[number].outbox.put_nowait((group, frames))
        else:
            self._lost(number)
