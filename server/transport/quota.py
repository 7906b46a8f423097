"""Limits of one reply and of one node, and a meter of what the node has sent."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from common.errors import TransportError
from common.protocol.channel import REPLY_BYTES

ANNOUNCEMENT = 2**19
"""Most bytes of the first frame of an announcement, which names every module of a model."""


@dataclass(frozen=True)
class ReplyLimit:
    """Limits on the reply to one message.

    Args:
        header: most bytes of its first frame; all replies but announcements have few values.
        arrays: most bytes of its arrays.
    """

    header: int = 2**16
    arrays: int = 0

    @classmethod
    def of(cls, kind: str, values: Mapping[str, Any]) -> Self:
        """Return the limits of the reply to a message of this type and with these values."""
        ordered: int = values.get(REPLY_BYTES, 0)
        return cls(ANNOUNCEMENT if kind == "query" else cls.header, ordered + ordered // 100)

    def check(self, header: int, arrays: int) -> None:
        """Check the bytes of a first frame, and of the arrays that it announces.

        Raises:
            TransportError: they are more than the limits.
        """
        if header > self.header:
            raise TransportError(f"{header} bytes of plain values where at most {self.header} are expected")
        if arrays > self.arrays:
            raise TransportError(f"{arrays} bytes of arrays where at most {self.arrays} were ordered")


@dataclass(frozen=True)
class NodeQuota:
    """Limits on what each node may send.

    Args:
        round: most bytes in one round, rejected and broken replies included.
        calls: most calls per second on average; the same number may come at once.
    """

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
