"""The two exchanges for a head in closed form: class sums from the nodes, then losses of heads made of them."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from common.adapters.adapter import Adapter, Array
from common.adapters.codec import encode_adapter
from common.errors import CodecError
from common.heads import requests
from common.heads.class_sums import ClassSums, packed_size, unpack_sums
from common.log_format import event
from common.protocol.channel import REPLY_BYTES
from common.protocol.messages import FROZEN, RejectionReason, RoundId
from common.protocol.payload import Payload
from common.protocol.values import InvalidValue
from server.algorithms.weighting import Limit
from server.links.grace import Grace
from server.links.links import Links, Sent

log = logging.getLogger(__name__)
T = TypeVar("T")
Nodes = Mapping[int, str]
"""Names of the nodes to ask, by number."""
WORST = 10.0
"""Largest loss of a row that counts, as a multiple of that of a guess, ln C: a node may say what it likes."""


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


@dataclass(frozen=True)
class NodeSums:
    """What a node sent: its sums, the rows that it left out, and the SHA-256 of its buffer."""

    sums: ClassSums
    left_out: int
    digest: str


class HeadExchange:
    """Asks nodes about heads of one shape.

    Args:
        links: to the nodes.
        shape: (C, H) of the head.
        gram: the head needs the Gram matrix.
        waiting: for the nodes.
        limit: most rows that the roster lets a node count for.
        traffic: counts what is sent and received.
    """

    def __init__(
        self, links: Links, shape: tuple[int, int], gram: bool, waiting: Waiting, limit: Limit, traffic: Traffic
    ) -> None:
        self._links, self._shape, self._gram, self._waiting, self._limit = links, shape, gram, waiting, limit
        self._traffic = traffic

    def sums(self, nodes: Nodes, round_id: RoundId, update: Adapter) -> dict[str, NodeSums]:
        """Return the valid sums of each node under this global update, by name in order of name."""
        size = packed_size(*self._shape, self._gram)
        values = {requests.ASKS: requests.CLASS_SUMS, "gram": self._gram, REPLY_BYTES: size}
        return dict(sorted(self._ask(nodes, round_id, values, {FROZEN: encode_adapter(update)}, self._read_sums)))

    def losses(
        self, nodes: Nodes, round_id: RoundId, update: Adapter, heads: Sequence[Array], temperatures: Sequence[float]
    ) -> tuple[Array, float]:
        """Return the losses of each head at each temperature, summed over all nodes, and the number of rows.

        A loss that is no number, or larger than `WORST` allows, counts as that; a node counts as the roster lets it.
        """
        values = {requests.ASKS: requests.HEAD_LOSSES, "temperatures": [float(each) for each in temperatures]}
        parts = {FROZEN: encode_adapter(update), requests.HEADS: requests.pack_heads(heads)}
        shape = len(heads), len(temperatures)
        found = dict(sorted(self._ask(nodes, round_id, values, parts, requests.HeadLossesReply.from_reply)))
        total, count, worst = np.zeros(shape), 0.0, WORST * math.log(max(self._shape[0], 2))
        for name, reply in found.items():
            if reply.count and len(reply.losses) == total.size:
                weight = min(1.0, (self._limit(name) or reply.count) / reply.count)
                losses = np.nan_to_num(np.reshape(reply.losses, shape), nan=np.inf, posinf=np.inf, neginf=np.inf)
                total += weight * np.clip(losses, 0.0, worst * reply.count)
                count += weight * reply.count
        return total, count

    def _ask(
        self,
        nodes: Nodes,
        round_id: RoundId,
        values: Mapping[str, object],
        parts: Mapping[str, bytes],
        read: Callable[[Payload], T],
    ) -> Iterator[tuple[str, T]]:
        payload, grace = Payload({**round_id.to_values(), **values}, parts=parts), self._waiting.grace()
        for node, reply, sent in self._links.request("evaluate", dict.fromkeys(nodes, payload), round_id.round, grace):
            self._count(nodes[node], reply, sent)
            found = _read(reply, round_id, read)
            if isinstance(found, str):
                what = "%s: its reply for a head in closed form does not count: %s"
                log.warning(what, nodes[node], found, extra=event("warning"))
                continue
            yield nodes[node], found
            grace.count()
        self._waiting.take(nodes, grace)

    def _count(self, name: str, reply: Payload | RejectionReason, sent: Sent) -> None:
        up = len(reply.blob) if isinstance(reply, Payload) else 0
        for way, size in ((self._traffic.down, sum(sent.values())), (self._traffic.up, up)):
            way[name] = way.get(name, 0) + size

    def _read_sums(self, reply: Payload) -> NodeSums:
        values = requests.SumsReply.from_values(reply.values)
        sums = unpack_sums(reply.blob, *self._shape, self._gram)
        if sums.rows != values.rows:
            raise CodecError("the sums are of another number of rows than the reply says")
        return NodeSums(sums, values.left_out, reply.blob_hash)


def _read(reply: Payload | RejectionReason, round_id: RoundId, read: Callable[[Payload], T]) -> T | str:
    """Return what a reply holds, or why it does not count."""
    if not isinstance(reply, Payload):
        return reply
    try:
        return read(reply) if RoundId.from_values(reply.values).is_of(round_id) else "stale"
    except (InvalidValue, CodecError) as error:
        return str(error)
