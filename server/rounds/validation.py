"""Validation of replies. An invalid one is rejected with one stable reason word, and the round continues without it."""

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
"""Largest number of rows or tokens that a client may report for one round."""


class RejectedReply(Exception):
    """A reply is invalid; `reason` states the reason in one word."""

    def __init__(self, reason: RejectionReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class ValidUpdate:
    """A valid reply: its factors as views on the received buffer, and the amount of data they were trained on."""

    adapter: Adapter
    examples: int
    tokens: int
    loss: float


def validate_reply(values: Mapping[str, Any], blob: bytes, round_id: RoundId, assignment: Assignment) -> ValidUpdate:
    """Check a reply in full, and return its update.

    Args:
        values: the plain values of the reply.
        blob: its factors, in the codec's format.
        round_id: the requested round.
        assignment: what this node was asked to train.

    Raises:
        RejectedReply: with the reason.
    """
    _check_round_id(values, round_id)
    examples, tokens = _count(values.get("examples")), _count(values.get("tokens"))
    loss = values.get("loss")
    if not isinstance(loss, float):
        raise RejectedReply("malformed")
    adapter = _decode(blob, assignment)
    if not np.isfinite(loss) or not _finite(adapter):
        raise RejectedReply("nan")
    return ValidUpdate(adapter, examples, tokens, loss)


def _check_round_id(values: Mapping[str, Any], round_id: RoundId) -> None:
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
        raise RejectedReply("malformed")  # B's may be summed only under a common A.
    return adapter


def _finite(adapter: Adapter) -> bool:
    """Return whether the factors and their product are finite in float32, in which other clients receive them."""
    with np.errstate(over="ignore"):
        arrays = all(np.isfinite(array.astype("f4", copy=False)).all() for array in adapter.arrays().values())
        return arrays and bool(np.isfinite(np.float32(lowrank.total_norm(adapter.values()))))
