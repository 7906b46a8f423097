"""Notices that the server sends to nodes: its newest roster, and each committed round."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from common.errors import TransportError
from common.protocol.values import InvalidValue, Real, Text, Texts, Values, Whole


@dataclass(frozen=True, kw_only=True)
class RoundNotice(Values):
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
        clip: factor that the server applied to the node's update.
        returned: the server's signature over a `Return`, if the run went back; empty if it did not.
    """

    run: Text
    round: Whole
    parent: Text
    adapter: Text
    updates: Texts
    reason: Text = ""
    weight: Real = 0.0
    signature: Text = ""
    clip: Real = 1.0
    returned: Text = ""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`; no other value may be there.

        Raises:
            TransportError: a value is missing, or of another type.
        """
        try:
            notice = super().from_values(values)
        except InvalidValue:
            notice = None
        if notice is None or len(values) != len(fields(cls)):
            raise TransportError("the server's round notice has another form; use the same release on both sides")
        return notice
