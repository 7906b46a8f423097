"""Requests for class sums and for the losses of heads, and their replies; they are messages of the kind `evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, Self

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.heads.closed_form import as_factors
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.protocol.replies import MAX_COUNT
from common.protocol.values import InvalidValue, Rule

ASKS = "asks"
"""Name of the value that says what a request asks for."""
CLASS_SUMS, HEAD_LOSSES = "class-sums", "head-losses"
HEADS = "heads"
"""Name of the buffer of heads to measure, factors by their place."""
MOST_HEADS, MOST_TEMPERATURES = 16, 16
"""Most heads and temperatures that a node measures in one request: many would tell its rows one by one."""

Rows = Annotated[int, Rule(int, low=0, high=MAX_COUNT)]


@dataclass(frozen=True, kw_only=True)
class SumsReply(RoundId):
    """The reply to a request for class sums, which are beside it.

    Args:
        rows: in the sums.
        left_out: rows of classes with too few rows for the node's policy.
    """

    rows: Rows
    left_out: Rows


@dataclass(frozen=True, kw_only=True)
class HeadLossesReply(RoundId):
    """The reply to a request for losses of heads.

    Args:
        losses: summed over the rows that the node holds out, in nats; of each head at each temperature, in order. One
            that overflowed is very large.
        count: number of these rows.
    """

    losses: Annotated[list[float], Rule(list, items=float)]
    count: Rows

    @classmethod
    def from_reply(cls, reply: Payload) -> Self:
        """Read a reply.

        Raises:
            InvalidValue: a value is missing or of another form.
        """
        return cls.from_values(reply.values)


def pack_heads(weights: Sequence[Array]) -> bytes:
    """Pack heads (C, H) as exact factors."""
    return encode_adapter(
        Adapter({f"{place:03d}": as_factors(each).astype("f4") for place, each in enumerate(weights)})
    )


def unpack_heads(buffer: bytes) -> list[Factors]:
    """Return the factors of each head, in order.

    Raises:
        CodecError: the buffer is malformed.
    """
    return list(decode_adapter(buffer).values())


def temperatures(values: Mapping[str, Any]) -> list[float]:
    """Return the temperatures of a request.

    Raises:
        KeyError, InvalidValue: they are missing, too many, or not positive numbers.
    """
    Rule(list, items=float).check("temperatures", found := values["temperatures"])
    if not 0 < len(found) <= MOST_TEMPERATURES or not all(0 < each < inf for each in found):
        raise InvalidValue("temperatures", "malformed")
    return list(found)
