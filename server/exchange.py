"""How the round talks to nodes, whatever carries the messages."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from common.messages import Reason

Kind = Literal["query", "train", "evaluate"]


@dataclass(frozen=True)
class Letter:
    """A message's content: plain values, and one buffer of factors where there are any."""

    values: Mapping[str, Any]
    blob: bytes = b""


class Exchange(Protocol):
    """Letters out, replies in."""

    def nodes(self) -> Iterable[int]:
        """Numbers of the nodes that are connected now."""
        ...

    def ask(self, kind: Kind, letters: Mapping[int, Letter], number: int) -> Iterator[tuple[int, Letter | Reason]]:
        """Each node's reply to its letter of round `number` as it arrives, or why there is none."""
        ...
