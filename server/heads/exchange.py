"""The two exchanges for a head in closed form: class sums from the nodes, then losses of heads made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.adapters.adapter import Adapter, Array
from common.adapters.codec import encode_adapter
from common.errors import CodecError
from common.heads import requests
from common.heads.class_sums import ClassSums, packed_size, unpack_sums
from common.protocol.channel import REPLY_BYTES
from common.protocol.messages import FROZEN, RoundId
from common.protocol.payload import Payload
from server.algorithms.weighting import Limit
from server.links.ask import Asker, Nodes

WHAT = "a head in closed form"
WORST = 10.0
"""Largest loss of a row that counts, as a multiple of that of a guess, ln C: a node may say what it likes."""


@dataclass(frozen=True)
class NodeSums:
    """What a node sent: its sums, the rows that it left out, and the SHA-256 of its buffer."""

    sums: ClassSums
    left_out: int
    digest: str


class HeadExchange:
    """Asks nodes about heads of one shape.

    Args:
        asker: asks them.
        shape: (C, H) of the head.
        gram: the head needs the Gram matrix.
        limit: most rows that the roster lets a node count for.
    """

    def __init__(self, asker: Asker, shape: tuple[int, int], gram: bool, limit: Limit) -> None:
        self._asker, self._shape, self._gram, self._limit = asker, shape, gram, limit

    def sums(self, nodes: Nodes, round_id: RoundId, update: Adapter) -> dict[str, NodeSums]:
        """Return the valid sums of each node under this global update, by name in order of name."""
        size = packed_size(*self._shape, self._gram)
        values = {requests.ASKS: requests.CLASS_SUMS, "gram": self._gram, REPLY_BYTES: size}
        payload = Payload({**round_id.to_values(), **values}, parts={FROZEN: encode_adapter(update)})
        return dict(sorted(self._asker.ask(nodes, round_id, payload, self._read_sums, WHAT)))

    def losses(
        self, nodes: Nodes, round_id: RoundId, update: Adapter, heads: Sequence[Array], temperatures: Sequence[float]
    ) -> tuple[Array, float]:
        """Return the losses of each head at each temperature, summed over all nodes, and the number of rows.

        A loss that is no number, or larger than `WORST` allows, counts as that; a node counts as the roster lets it.
        """
        values = {requests.ASKS: requests.HEAD_LOSSES, "temperatures": [float(each) for each in temperatures]}
        parts = {FROZEN: encode_adapter(update), requests.HEADS: requests.pack_heads(heads)}
        shape = len(heads), len(temperatures)
        payload = Payload({**round_id.to_values(), **values}, parts=parts)
        found = dict(sorted(self._asker.ask(nodes, round_id, payload, requests.HeadLossesReply.from_reply, WHAT)))
        total, count, worst = np.zeros(shape), 0.0, WORST * math.log(max(self._shape[0], 2))
        for name, reply in found.items():
            if reply.count and len(reply.losses) == total.size:
                weight = min(1.0, (self._limit(name) or reply.count) / reply.count)
                losses = np.nan_to_num(np.reshape(reply.losses, shape), nan=np.inf, posinf=np.inf, neginf=np.inf)
                total += weight * np.clip(losses, 0.0, worst * reply.count)
                count += weight * reply.count
        return total, count

    def _read_sums(self, reply: Payload) -> NodeSums:
        values = requests.SumsReply.from_values(reply.values)
        sums = unpack_sums(reply.blob, *self._shape, self._gram)
        if sums.rows != values.rows:
            raise CodecError("the sums are of another number of rows than the reply says")
        return NodeSums(sums, values.left_out, reply.blob_hash)
