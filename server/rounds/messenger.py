"""The round's interface to nodes, independent of what carries the messages."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload


class Messenger(Protocol):
    """Sends payloads to nodes and returns their replies."""

    def nodes(self) -> Iterable[int]:
        """Return the numbers of the connected nodes."""
        ...

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield each node's reply to its payload of round `number` as it arrives, or the reason that there is none."""
        ...
