"""A question to nodes beside training: sent as `evaluate`, and each reply read or left out with the reason."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from common.errors import CodecError
from common.log_format import event
from common.protocol.messages import RejectionReason, RoundId
from common.protocol.payload import Payload
from common.protocol.values import InvalidValue
from server.links.grace import Grace
from server.links.links import Links, Sent

log = logging.getLogger(__name__)
T = TypeVar("T")
Nodes = Mapping[int, str]
"""Names of the nodes to ask, by number."""


class Waiting(Protocol):
    """How long nodes are waited for, and what becomes of silent ones."""

    def grace(self) -> Grace:
        """Return the grace of a question."""
        ...

    def take(self, nodes: Nodes, grace: Grace) -> None:
        """Note which of the nodes that were asked were silent."""
        ...


@dataclass
class Traffic:
    """Bytes to and from each node, by name."""

    down: dict[str, int] = field(default_factory=dict)
    up: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, reply: Payload | RejectionReason, sent: Sent) -> None:
        """Count what a node was sent and has sent."""
        up = len(reply.blob) if isinstance(reply, Payload) else 0
        for way, size in ((self.down, sum(sent.values())), (self.up, up)):
            way[name] = way.get(name, 0) + size


@dataclass(frozen=True)
class Asker:
    """Asks nodes.

    Args:
        links: to the nodes.
        waiting: for them.
        traffic: counts what is sent and received.
    """

    links: Links
    waiting: Waiting
    traffic: Traffic

    def ask(
        self, nodes: Nodes, round_id: RoundId, payload: Payload, read: Callable[[Payload], T], what: str
    ) -> Iterator[tuple[str, T]]:
        """Yield name and answer of each node whose reply counts, as it arrives.

        Args:
            nodes: to ask.
            round_id: of the question.
            payload: the question.
            read: returns what a reply holds, and raises `InvalidValue` or `CodecError` for one of another form.
            what: the reply is for, as the log names it.
        """
        grace = self.waiting.grace()
        for node, reply, sent in self.links.request("evaluate", dict.fromkeys(nodes, payload), round_id.round, grace):
            self.traffic.count(nodes[node], reply, sent)
            found = _read(reply, round_id, read)
            if isinstance(found, _Fault):
                text = "%s: its reply for %s does not count: %s"
                log.warning(text, nodes[node], what, found.text, extra=event("warning"))
                continue
            yield nodes[node], found
            grace.count()
        self.waiting.take(nodes, grace)


@dataclass(frozen=True)
class _Fault:
    text: str


def _read(reply: Payload | RejectionReason, round_id: RoundId, read: Callable[[Payload], T]) -> T | _Fault:
    """Return what a reply holds, or why it does not count."""
    if not isinstance(reply, Payload):
        return _Fault(reply)
    try:
        return read(reply) if RoundId.from_values(reply.values).is_of(round_id) else _Fault("stale")
    except (InvalidValue, CodecError) as error:
        return _Fault(str(error))
