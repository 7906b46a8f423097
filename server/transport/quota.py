"""What one node may send to the server, and what it has sent."""

import time
from collections import Counter
from dataclasses import dataclass, field

from common.errors import TransportError


@dataclass(frozen=True)
class NodeQuota:
    """What each node may send.

    Args:
        reply: bytes of the arrays of one reply, at most.
        round: bytes in one round, at most, refused and broken replies included.
        calls: a second, at most, on average; as many may come at once.
    """

    reply: int = 2**30
    round: int = 2**32
    calls: float = 200.0


@dataclass
class TrafficMeter:
    """What passed between one node and the server.

    Args:
        limits: of this node.
        received: bytes, ever.
        sent: bytes, ever.
        seen: Unix time at which it last called or sent anything; 0 before.
        refused: how often it was refused, by reason.
    """

    quota: NodeQuota
    received: int = 0
    sent: int = 0
    seen: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    _round: str = ""
    _in_round: int = 0
    _calls: float = 0.0
    _counted: float = 0.0

    def begin(self, group: str) -> None:
        """A message of this round goes to the node."""
        if group != self._round:
            self._round, self._in_round = group, 0

    def call(self) -> None:
        """The node called.

        Raises:
            TransportError: it calls too often.
        """
        now = time.monotonic()
        self.seen = time.time()
        self._calls = max(0.0, self._calls - (now - self._counted) * self.quota.calls)
        self._counted = now
        if self._calls + 1 > self.quota.calls:
            raise TransportError(f"more than {self.quota.calls:g} calls a second")
        self._calls += 1

    def receive(self, size: int) -> None:
        """The node sent so many bytes.

        Raises:
            TransportError: they are too many in this round.
        """
        self.received += size
        self._in_round += size
        self.seen = time.time()
        if self._in_round > self.quota.round:
            raise TransportError(f"more than {self.quota.round} bytes in one round")
