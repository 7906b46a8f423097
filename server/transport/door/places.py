"""Who holds the server's connections: shares by certificate, and by address for those that have not shown one.

A connection has shown a certificate once a node that the roster admits has made a call over it. Everything here runs in
the thread of the event loop.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import NamedTuple

from server.transport.door.refusals import COUNT, RefusalLog
from server.transport.door.sockets import Address, Host, OpenSocket, address_of, open_sockets, shut

OF_ONE_NODE = 4
"""Connections of one certificate. A node needs one, and two or three while it reconnects."""
OF_STRANGERS, OF_ONE_ADDRESS = 4096, 1024
"""Most connections that have not shown a certificate, together and of one address; at most a half and a quarter of all
places, so that the others stay free for nodes."""
FIRST_CALL = 15.0
"""Seconds from the connection to the first call of an admitted node."""
IDLE = 60.0
"""Seconds that a connection may stay without a call."""


@dataclass
class _Visitor:
    """An admitted node at the other end of a connection.

    Args:
        node: its name.
        calls: that are open.
        streams: of these, the open streams of messages.
        last: end of its last call, in seconds of the clock.
    """

    node: str
    last: float
    calls: int = 0
    streams: int = 0


class _Held(NamedTuple):
    """A connection that stands."""

    since: float
    number: int
    address: Address


class Door:
    """Closes the connections that overstay or are too many.

    Args:
        places: most connections of the server.
        said: the log of who fills them.
        clock: returns seconds that never go back.
    """

    def __init__(self, places: int, said: RefusalLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._of_address = min(places // 2, OF_STRANGERS), min(places // 4, OF_ONE_ADDRESS)
        self._said, self._clock = said, clock
        self._sockets: dict[int, OpenSocket] = {}
        self._since: dict[tuple[int, int], float] = {}
        self._shut = set[tuple[int, int]]()
        self._visitors: dict[Address, _Visitor] = {}
        self.is_pressed = False
        """True if the strangers have half of their places, or an address has, so that the next look is due soon."""

    @contextmanager
    def visit(self, peer: str, node: str, stream: bool = False) -> Iterator[None]:
        """Note that an admitted node's call over the connection of this peer (gRPC's text) is open in the block."""
        address = address_of(peer)
        visitor = self._visitors.get(address) if address else None
        if visitor is None or visitor.node != node:
            visitor = _Visitor(node, self._clock())
            if address:
                self._visitors[address] = visitor
        visitor.calls, visitor.streams = visitor.calls + 1, visitor.streams + stream
        try:
            yield
        finally:
            visitor.calls, visitor.streams = visitor.calls - 1, visitor.streams - stream
            visitor.last = self._clock()

    def look(self, port: int) -> None:
        """Close what may not stay of the connections to this port."""
        now = self._clock()
        held = self._hold(port, now)
        strangers = [each for each in held if each.address not in self._visitors]
        late = {each for each in strangers if now - each.since >= FIRST_CALL}
        late |= {each for each in held if self._is_idle(each, now)}
        crowded = self._crowd(strangers) | self._doubles(held)
        counts = Counter(map(self._holder, held))
        self._close(late, port, "late", counts)
        self._close(crowded - late, port, "share", counts)

    def _hold(self, port: int, now: float) -> list[_Held]:
        """Return the connections that stand, the oldest first, and forget those that have gone."""
        self._sockets = open_sockets(port, self._sockets)
        there = {(n, each.inode): each.address for n, each in self._sockets.items() if each.address}
        self._since = {key: self._since.get(key, now) for key in there}
        self._shut &= there.keys()
        addresses = set(there.values())
        self._visitors = {a: each for a, each in self._visitors.items() if each.calls or a in addresses}
        standing = ((key, address) for key, address in there.items() if key not in self._shut)
        return sorted(_Held(self._since[key], key[0], address) for key, address in standing)

    def _is_idle(self, held: _Held, now: float) -> bool:
        visitor = self._visitors.get(held.address)
        return visitor is not None and not visitor.calls and now - visitor.last >= IDLE

    def _crowd(self, strangers: Iterable[_Held]) -> set[_Held]:
        """Return the strangers beyond their shares: the oldest of each address, so that one that comes now gets in."""
        groups = defaultdict[str, list[_Held]](list)
        for each in strangers:
            groups[_neighbours(each.address.host)].append(each)
        share, total = self._of_address, sum(map(len, groups.values()))
        self.is_pressed = 2 * total > self._most or any(2 * len(group) > share for group in groups.values())
        while share > 1 and sum(min(len(group), share) for group in groups.values()) > self._most:
            share -= 1 + share // 8
        kept = sorted(each for group in groups.values() for each in group[-share:])[-self._most :]
        return {each for group in groups.values() for each in group} - set(kept)

    def _doubles(self, held: Iterable[_Held]) -> set[_Held]:
        """Return the connections beyond the share of a certificate; the one with its stream stays, then the newest."""
        groups = defaultdict[str, list[_Held]](list)
        for each in held:
            if visitor := self._visitors.get(each.address):
                groups[visitor.node].append(each)
        ranked = (sorted(group, key=self._streams) for group in groups.values())
        return {each for group in ranked for each in group[:-OF_ONE_NODE]}

    def _streams(self, held: _Held) -> int:
        return self._visitors[held.address].streams

    def _holder(self, held: _Held) -> tuple[str, str]:
        """Return the name of the node, or the address, that holds a connection."""
        visitor = self._visitors.get(held.address)
        return (visitor.node, "") if visitor else ("", _neighbours(held.address.host))

    def _close(self, closed: Iterable[_Held], port: int, reason: str, counts: Counter[tuple[str, str]]) -> None:
        for each in closed:
            self._shut.add((each.number, self._sockets[each.number].inode))
            shut(each.number, each.address, port)
        for (node, address), count in Counter(map(self._holder, closed)).items():
            who = f"node {node}" if node else address
            why = _REASONS[reason, bool(node)]
            text = f"{who} holds {counts[node, address]} connections: {count} closed, {why}"
            more = f"{who} opened {COUNT} more connections in the last minute that were closed, {why}"
            self._said.note("door", node or address, reason, text, more, logging.WARNING, count=count)


_REASONS = {
    ("late", True): f"without a call for {IDLE:g} s",
    ("late", False): f"without a call of an admitted node in {FIRST_CALL:g} s",
    ("share", True): f"more than {OF_ONE_NODE} of one certificate",
    ("share", False): "more than the share of one that has shown no certificate",
}
"""Why a connection was closed: by the reason word, and whether a node is known by name."""


def _neighbours(host: Host) -> str:
    """Return the address, or the /64 of an IPv6 address: whoever has one of these has all."""
    return str(ip_network((host, 64), strict=False)) if isinstance(host, IPv6Address) else str(host)
