"""What makes a reply acceptable. One stable word says why another is not, and the rest of the round goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter
from common.adapters.codec import DecodeLimits
from common.errors import CodecError
from common.protocol.assignment import Assignment
from common.protocol.messages import RejectionReason, RoundId, unpack_update

MAX_COUNT = 10**9
"""Rows or tokens that a client may say it trained on in one round."""


class RejectedReply(Exception):
    """A reply that does not count, and why in one word."""

    def __init__(self, reason: RejectionReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class ValidUpdate:
    """A reply that counts: its factors as views on the received buffer, and what they were trained on."""

    adapter: Adapter
    examples: int
    tokens: int
    loss: float


def validate_reply(values: Mapping[str, Any], blob: bytes, round_id: RoundId, assignment: Assignment) -> ValidUpdate:
    """The reply, once everything about it has been checked.

    Args:
        values: the plain values of the reply.
        blob: its factors, in the codec's format.
        order: the round that was asked for.
        assignment: what this node was asked to train.

    Raises:
        Refused: with the reason.
    """
    _check_order(values, round_id)
    examples, tokens = _count(values.get("examples")), _count(values.get("tokens"))
    loss = values.get("loss")
    if not isinstance(loss, float):
        raise RejectedReply("malformed")
    adapter = _decode(blob, assignment)
    if not np.isfinite(loss) or not _finite(adapter):
        raise RejectedReply("nan")
    return ValidUpdate(adapter, examples, tokens, loss)


def _check_order(values: Mapping[str, Any], round_id: RoundId) -> None:
    try:
        received = RoundId.from_values(values)
    except KeyError:
        raise RejectedReply("malformed") from None
    if received.base != round_id.base:
        raise RejectedReply("base")
    if received != round_id:
        raise RejectedReply("stale")


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        raise RejectedReply("weight")
    return value


def _decode(blob: bytes, assignment: Assignment) -> Adapter:
    asked = assignment.start
    size = sum(array.nbytes for array in asked.arrays().values())
    try:
        adapter = unpack_update(blob, assignment, DecodeLimits(max_bytes=len(blob) + size))
    except CodecError:
        raise RejectedReply("codec") from None
    if adapter.shapes != asked.shapes:
        raise RejectedReply("shape")
    if any(adapter[name].rank != factors.rank for name, factors in asked.items()):
        raise RejectedReply("rank")
    if assignment.trains == "b" and not all(np.array_equal(adapter[name].a, f.a) for name, f in asked.items()):
        raise RejectedReply("malformed")  # The sum of B's is under the common A.
    return adapter


def _finite(adapter: Adapter) -> bool:
    """Whether the factors and their product are numbers in float32, as the other clients will hold them."""
    with np.errstate(over="ignore"):
        arrays = all(np.isfinite(array.astype("f4", copy=False)).all() for array in adapter.arrays().values())
        return arrays and bool(np.isfinite(np.float32(lowrank.total_norm(adapter.values()))))
