"""Which nodes are connected. All but `numbers` is for the thread of the event loop."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Literal, NamedTuple

from server.transport.peer import Peer
from server.transport.quota import NodeQuota, TrafficMeter

End = Literal["over", "closing", "replaced", "malformed", "refused", "gone"]
"""Why a stream ends: the run is over, the server stops before that, the node connected again, it sent nonsense, it is
no longer admitted, it hung up."""

log = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """A message on its way to a node.

    Args:
        group: its round; a notice has none.
        frames: of it.
        expires: when nobody waits for the reply any more, in seconds of `time.monotonic`.
    """

    group: str
    frames: Iterator[bytes]
    expires: float = inf


@dataclass(eq=False)
class Connection:
    """A node's open stream.

    Args:
        number: Flower's number for the node; new at each connection, so that one that comes back is asked again who it
            is.
        peer: who it is.
        rank: the largest rank that it announced.
        outbox: messages to it; or why the stream ends.
    """

    number: int
    peer: Peer
    rank: int
    outbox: asyncio.Queue[Outgoing | End] = field(default_factory=asyncio.Queue)


class Connections:
    """Connected nodes, each once.

    Args:
        lost: told the number of a node that is gone.
        limits: of each node.
    """

    def __init__(self, lost: Callable[[int], None], limits: NodeQuota) -> None:
        self._lost, self._quota = lost, limits
        self._open: dict[int, Connection] = {}
        self._next = count(2)  # Flower's number 1 is the server.
        self.meters: dict[str, TrafficMeter] = {}

    def numbers(self) -> list[int]:
        """Of the connected nodes, in the order in which they came."""
        return list(self._open)

    def meter(self, name: str) -> TrafficMeter:
        """What a node sends; it outlives its connections."""
        return self.meters.setdefault(name, TrafficMeter(self._quota))

    def find(self, peer: Peer) -> Connection | None:
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
            # Of what it has not got, it still gets notices where the run is over: they tell of the last round.
            _keep(connection.outbox, lambda item: why == "over" and not item.group)
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
                connection.outbox.put_nowait(Outgoing("", frames))

    def get(self, number: int) -> Connection | None:
        """The connection of this number."""
        return self._open.get(number)

    def send(self, number: int, message: Outgoing) -> None:
        """Send a message to a node, and drop those that came too late for it; one that is gone is lost once more."""
        if connection := self._open.get(number):
            now = time.monotonic()
            _keep(connection.outbox, lambda item: item.expires > now)
            connection.outbox.put_nowait(message)
        else:
            self._lost(number)


def _keep(outbox: asyncio.Queue[Outgoing | End], worth: Callable[[Outgoing], bool]) -> None:
    """Drop the other messages."""
    for _ in range(outbox.qsize()):
        item = outbox.get_nowait()
        if isinstance(item, str) or worth(item):
            outbox.put_nowait(item)
