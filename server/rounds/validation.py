"""Validation of replies. An invalid one is rejected with one stable reason word, and the round continues without it."""

from dataclasses import dataclass

import numpy as np

from common.adapters.adapter import Adapter, Factors
from common.adapters.change import change_norm
from common.adapters.codec import DecodeLimits
from common.errors import CodecError
from common.protocol.assignment import Assignment, Training
from common.protocol.messages import RejectionReason, RoundId, reply_form, unpack_update
from common.protocol.payload import Payload
from common.protocol.replies import TrainReply
from common.protocol.values import InvalidValue


class RejectedReply(Exception):
    """A reply is invalid; `reason` states the reason in one word."""

    def __init__(self, reason: RejectionReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class ValidReply:
    """A valid reply: its values, its factors as views on the received buffer, and the norm of their change."""

    values: TrainReply
    adapter: Adapter
    norm: float


def validate_reply(reply: Payload, round_id: RoundId, assignment: Assignment, training: Training) -> ValidReply:
    """Check a reply in full, and return it.

    Args:
        reply: its plain values, and its factors in the codec's format.
        round_id: the requested round.
        assignment: what this node was asked to train.
        training: the steps that it was asked for; no reply counts more rows than these read.

    Raises:
        RejectedReply: with the reason.
    """
    try:
        values = TrainReply.from_values(reply.values)
    except InvalidValue as invalid:
        raise RejectedReply(invalid.reason) from None
    if values.base != round_id.base:
        raise RejectedReply("base")
    if not values.is_of(round_id):
        raise RejectedReply("stale")
    if values.examples > training.rows:
        raise RejectedReply("weight")
    adapter = _decode(reply.blob, assignment)
    return ValidReply(values, adapter, _finite_norm(adapter, assignment))


def _decode(blob: bytes, assignment: Assignment) -> Adapter:
    asked = reply_form(assignment)
    size = sum(array.nbytes for array in asked.arrays().values())
    try:
        adapter = unpack_update(blob, assignment, DecodeLimits(max_bytes=len(blob) + size))
    except CodecError:
        raise RejectedReply("codec") from None
    if adapter.shapes != asked.shapes:
        raise RejectedReply("shape")
    if adapter.ranks != asked.ranks:
        raise RejectedReply("rank")
    common = [name for name, f in asked.items() if _has_common_a(assignment, f)]
    if not all(np.array_equal(adapter[name].a, asked[name].a) for name in common):
        raise RejectedReply("malformed")  # B's may be summed only under a common A.
    return adapter


def _has_common_a(assignment: Assignment, factors: Factors) -> bool:
    if assignment.returns == "compressed-gradient":
        return factors.rank == factors.shape[1]  # sent whole, beside the identity
    return assignment.trains == "b"


def _finite_norm(adapter: Adapter, assignment: Assignment) -> float:
    """Return the norm of the change; factors and norm are finite in float32, in which other clients receive them."""
    with np.errstate(over="ignore"):
        if not all(_is_finite(factors) for factors in adapter.values()):
            raise RejectedReply("nan")
        norm = change_norm(adapter, Adapter() if assignment.returns == "compressed-gradient" else assignment.start)
        if not np.isfinite(np.float32(norm)):
            raise RejectedReply("nan")
    return norm


def _is_finite(factors: Factors) -> bool:
    return all(bool(np.isfinite(side.astype("f4", copy=False)).all()) for side in (factors.a, factors.b))
