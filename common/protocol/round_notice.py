"""Notices that the server sends to nodes: its newest roster, and each committed round."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from common.errors import TransportError


@dataclass(frozen=True, kw_only=True)
class RoundNotice:
    """A committed round in the server's log, as reported to one node; hashes are SHA-256 in hexadecimal.

    Args:
        run: identity of the run.
        round: its number; 0 is before training.
        parent: hash of the adapter that the round started from; empty in round 0.
        adapter: hash of the adapter that it ended with.
        updates: hashes of the updates that count.
        reason: reason word if the node's update does not count; empty if it does, or if the node was not asked.
        weight: the node's share of the sum.
        signature: the server's, over the receipt for the node's update; empty if there is none.
    """

    run: str
    round: int
    parent: str
    adapter: str
    updates: list[str]
    reason: str = ""
    weight: float = 0.0
    signature: str = ""

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        return dict(vars(self))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`.

        Raises:
            TransportError: a value is missing, or of another type.
        """
        kinds = {field.name: list if field.name == "updates" else field.type for field in fields(cls)}
        if values.keys() != kinds.keys() or any(type(values[name]) is not kind for name, kind in kinds.items()):
            raise TransportError("the server's round notice has another form; use the same release on both sides")
        return cls(**values)
