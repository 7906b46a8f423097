"""The connected nodes. Everything except `numbers` is for the thread of the event loop."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Literal, NamedTuple

from server.transport.door.refusals import COUNT, RefusalLog
from server.transport.peer import Peer
from server.transport.quota import NodeQuota, TrafficMeter

End = Literal["over", "closing", "replaced", "malformed", "refused", "gone"]
"""Reason for the end of a stream: the run is over, the server stops before that, the node connected again, it sent
invalid data, its admission ended, it hung up."""

_AT_ONCE = 5
"""Connections of one node in a minute that are each said; a node that opens and closes more fills no log."""


class Outgoing(NamedTuple):
    """A message on its way to a node.

    Args:
        group: its round; a notice has none.
        frames: its bytes.
        expires: time after which nobody waits for the reply, in seconds of `time.monotonic`.
    """

    group: str
    frames: Iterator[bytes]
    expires: float = inf


@dataclass(eq=False)
class Connection:
    """A node's open stream.

    Args:
        number: Flower's number for the node; new at each connection, so that a node that reconnects is asked again to
            announce itself.
        peer: its name and key.
        rank: the largest rank that it announced.
        outbox: messages to it, and at last the reason for the end of the stream.
    """

    number: int
    peer: Peer
    rank: int
    outbox: asyncio.Queue[Outgoing | End] = field(default_factory=asyncio.Queue)


class Connections:
    """Connected nodes, each once.

    Args:
        lost: called with the number of a node that has disconnected.
        limits: of each node.
        said: the log of what nodes do.
    """

    def __init__(self, lost: Callable[[int], None], limits: NodeQuota, said: RefusalLog) -> None:
        self._lost, self._quota, self._said = lost, limits, said
        self._open: dict[int, Connection] = {}
        self._next = count(2)  # Flower's number 1 is the server.
        self.meters: dict[str, TrafficMeter] = {}

    def numbers(self) -> list[int]:
        """Return the numbers of the connected nodes, in the order of connection."""
        return list(self._open)

    def meter(self, name: str) -> TrafficMeter:
        """Return the traffic meter of a node; it outlives the node's connections."""
        return self.meters.setdefault(name, TrafficMeter(self._quota))

    def find(self, peer: Peer) -> Connection | None:
        """Return the peer's connection, or None."""
        return next((each for each in self._open.values() if each.peer == peer), None)

    def enter(self, peer: Peer, rank: int) -> Connection:
        """Open the peer's connection. It replaces an older one, which may hang for 30 seconds after a network failure.

        Whoever holds the node's key is the node; the older stream ends with `replaced`, to inform a second process.
        """
        for each in [each for each in self._open.values() if each.peer.name == peer.name]:
            self.leave(each, "replaced")
        connection = Connection(next(self._next), peer, rank)
        self._open[connection.number] = connection
        self._say(peer.name, "connected", f"node {peer.name} is connected")
        return connection

    def leave(self, connection: Connection, why: End) -> None:
        """End a connection, if it has not ended yet."""
        if self._open.pop(connection.number, None):
            self._say(connection.peer.name, why, f"node {connection.peer.name}: {why}")
            # If the run is over, the node still gets pending notices, since one reports the last round.
            _keep(connection.outbox, lambda item: why == "over" and not item.group)
            connection.outbox.put_nowait(why)
            self._lost(connection.number)

    def _say(self, name: str, word: str, text: str) -> None:
        more = f"node {name} was {word} {COUNT} more times in the last minute"
        self._said.note("stream", name, word, text, more, logging.INFO, at_once=_AT_ONCE)

    def leave_all(self, why: End) -> None:
        """End every connection."""
        for connection in list(self._open.values()):
            self.leave(connection, why)

    def names(self) -> list[str]:
        """Return the names of the connected nodes."""
        return [connection.peer.name for connection in list(self._open.values())]

    def name(self, number: int) -> str:
        """Return the name of the node of this number, or the number as text if it is not connected."""
        connection = self._open.get(number)
        return connection.peer.name if connection else str(number)

    def notify(self, name: str, frames: Iterator[bytes]) -> None:
        """Send a notice to the node of this name, if it is connected."""
        for connection in self._open.values():
            if connection.peer.name == name:
                connection.outbox.put_nowait(Outgoing("", frames))

    def get(self, number: int) -> Connection | None:
        """Return the connection of this number, or None."""
        return self._open.get(number)

    def send(self, number: int, message: Outgoing) -> None:
        """Send a message to a node, and drop its expired ones; report the node as lost if it is not connected."""
        if connection := self._open.get(number):
            now = time.monotonic()
            _keep(connection.outbox, lambda item: item.expires > now)
            connection.outbox.put_nowait(message)
        else:
            self._lost(number)


def _keep(outbox: asyncio.Queue[Outgoing | End], worth: Callable[[Outgoing], bool]) -> None:
    """Keep the messages that are worth sending, and drop the others."""
    for _ in range(outbox.qsize()):
        item = outbox.get_nowait()
        if isinstance(item, str) or worth(item):
            outbox.put_nowait(item)
