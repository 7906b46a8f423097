"""The wire form of assignments and updates: one buffer of factors beside a few plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from common.adapters.adapter import Adapter
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter
from common.adapters.joined import join_adapters, split_adapters
from common.protocol.assignment import Assignment, Training, Trains, Update

ADAPTER_STYPE = "fedlora.v1"
"""Type of the one array that a message carries: the bytes of `common.adapters.codec`."""

RejectionReason = Literal[
    "absent",
    "base",
    "codec",
    "device",
    "expired",
    "failed",
    "malformed",
    "name",
    "nan",
    "policy",
    "rank",
    "replay",
    "revoked",
    "shape",
    "signature",
    "stale",
    "unknown",
    "weight",
]
"""The reason word with which a node or its reply is rejected."""


@dataclass(frozen=True)
class RoundId:
    """The run and round that a message belongs to; the reply repeats it.

    Args:
        run: identity of the run.
        round: counted from 1; 0 before training.
        parent: hash of the adapter that the round starts from.
        base: fingerprint that the node must have.
        attempt: counted from 1 within the round; earlier attempts were abandoned.
    """

    run: str
    round: int
    parent: str
    base: str
    attempt: int = 1

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        return dict(vars(self))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`; other values are ignored.

        Raises:
            KeyError: a value is missing.
        """
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def assignment_values(assignment: Assignment, training: Training) -> dict[str, Any]:
    """Return the plain values that go beside an assignment's buffer."""
    return training.to_values() | {"trains": assignment.trains, "scaling": assignment.scaling}


def pack_assignment(assignment: Assignment) -> bytes:
    """Pack the frozen and the start factors into one buffer; a zero B is not sent."""
    joined = join_adapters(frozen=assignment.frozen, start=assignment.start)
    return encode_adapter(joined, omit={f"{name}.b" for name, factors in joined.items() if not factors.b.any()})


def unpack_assignment(buffer: bytes, trains: Trains, scaling: float) -> Assignment:
    """Undo `pack_assignment`.

    Raises:
        CodecError: the buffer is malformed.
    """
    parts = split_adapters(decode_adapter(buffer))
    return Assignment(parts.get("frozen", Adapter()), parts.get("start", Adapter()), trains, scaling)


def pack_update(update: Update, trains: Trains) -> bytes:
    """Pack the trained factors into one buffer; an A that was only lent is not sent back."""
    lent = {f"{name}.a" for name in update.adapter} if trains == "b" else ()
    return encode_adapter(update.adapter, omit=lent)


def unpack_update(buffer: bytes, assignment: Assignment, limits: DecodeLimits) -> Adapter:
    """Return the trained factors as views on the buffer, completed by the A that the client was lent.

    Raises:
        CodecError: the buffer is malformed or beyond the limits.
    """
    return decode_adapter(buffer, limits, known=assignment.start if assignment.trains == "b" else None)
