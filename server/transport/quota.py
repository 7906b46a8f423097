"""Quota of one node, and a meter of what it has sent."""

import time
from collections import Counter
from dataclasses import dataclass, field

from common.errors import TransportError


@dataclass(frozen=True)
class NodeQuota:
    """Limits on what each node may send.

    Args:
        reply: most bytes of the arrays of one reply.
        round: most bytes in one round, rejected and broken replies included.
        calls: most calls per second on average; the same number may come at once.
    """

    reply: int = 2**30
    round: int = 2**32
    calls: float = 200.0


@dataclass
class TrafficMeter:
    """Traffic between one node and the server.

    Args:
        quota: limits of this node.
        received: bytes in total.
        sent: bytes in total.
        seen: Unix time of its last call or bytes; 0 before.
        refused: number of its rejections, by reason.
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
        """Note a message of this round to the node; a new round resets its count of bytes."""
        if group != self._round:
            self._round, self._in_round = group, 0

    def call(self) -> None:
        """Count a call of the node.

        Raises:
            TransportError: it calls too often.
        """
        now = time.monotonic()
        self.seen = time.time()
        self._calls = max(0.0, self._calls - (now - self._counted) * self.quota.calls)
        self._counted = now
        if self._calls + 1 > self.quota.calls:
            raise TransportError(f"more than {self.quota.calls:g} calls per second")
        self._calls += 1

    def receive(self, size: int) -> None:
        """Count `size` bytes from the node.

        Raises:
            TransportError: the total of this round is too large.
        """
        self.received += size
        self._in_round += size
        self.seen = time.time()
        if self._in_round > self.quota.round:
            raise TransportError(f"more than {self.quota.round} bytes in one round")
