"""How the round talks to nodes, whatever carries the messages."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload


class Messenger(Protocol):
    """Letters out, replies in."""

    def nodes(self) -> Iterable[int]:
        """Numbers of the nodes that are connected now."""
        ...

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Each node's reply to its letter of round `number` as it arrives, or why there is none."""
        ...
