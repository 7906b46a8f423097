"""How the round talks to nodes, whatever carries the messages."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from common.protocol.messages import Reason
from common.protocol.payload import Kind, Letter


class Exchange(Protocol):
    """Letters out, replies in."""

    def nodes(self) -> Iterable[int]:
        """Numbers of the nodes that are connected now."""
        ...

    def ask(self, kind: Kind, letters: Mapping[int, Letter], number: int) -> Iterator[tuple[int, Letter | Reason]]:
        """Each node's reply to its letter of round `number` as it arrives, or why there is none."""
        ...
