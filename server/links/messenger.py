"""The round's interface to nodes, independent of what carries the messages."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload
from server.links.grace import Grace


class Messenger(Protocol):
    """Sends payloads to nodes and returns their replies."""

    def nodes(self) -> Iterable[int]:
        """Return the numbers of the connected nodes."""
        ...

    def name(self, node: int) -> str:
        """Return the name of a connected node, for people."""
        ...

    def announcements(
        self, question: Payload, known: Collection[int]
    ) -> Iterable[tuple[int, Payload | RejectionReason]]:
        """Ask connected nodes that are not `known` to announce themselves, once each; return what has arrived by now.

        It does not wait: a node answers when it has read its base model and rows.
        """
        ...

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield each node's reply to its payload of round `number` as it arrives, or the reason that there is none.

        Args:
            kind: of the messages.
            payloads: by node.
            number: of the round.
            grace: says which nodes are not waited for any more, where the messenger knows their last reports.
        """
        ...
