"""The messenger over any Flower grid: payloads become messages, and replies become payloads.

Flower's own strategies begin at round 1 and hold every reply in memory, so fedlora has its own loop over rounds
(server/rounds/loop.py), on `push_messages` and `pull_messages`.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol

from flwr.app import Message
from flwr.serverapp import Grid

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload, read_reply

SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between two checks for replies, from first to last; they double while none arrives, since a check takes time
from nodes on the same machine."""
LOADING = 30 * 86_400.0
"""Seconds in which a node may announce itself: it reads its base model and rows before."""


class Grace(Protocol):
    """Says which nodes are not waited for any more."""

    def is_over(self, node: int, reported: float | None) -> bool:
        """Return whether a node that last reported at this time is given up."""
        ...

    def note_missed(self, node: int, reported: float | None) -> None:
        """Note that a node has missed the deadline."""
        ...


class Reports(Protocol):
    """A grid whose nodes report their steps."""

    def last_report(self, message_id: str) -> float | None:
        """Return when the node last showed that it works on a message, in seconds of `time.monotonic`, or None."""
        ...

    def withdraw(self, message_id: str) -> None:
        """Wait no more for the reply to a message."""
        ...


class FlowerMessenger:
    """Sends payloads over a Flower grid.

    Args:
        grid: to send over.
        deadline: seconds that a node has for each reply, its announcement aside.
        name: returns a node's name by its number.
        reports: of the nodes' steps; without them every node has the whole deadline.
    """

    def __init__(
        self, grid: Grid, deadline: float, name: Callable[[int], str] = str, reports: Reports | None = None
    ) -> None:
        self._grid, self._deadline, self._name, self._reports = grid, deadline, name, reports
        self._asked: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def nodes(self) -> Iterable[int]:
        """Return Flower's numbers of the connected nodes."""
        return self._grid.get_node_ids()

    def name(self, node: int) -> str:
        """Return the node's name, also of one that has been connected; its number where the grid knows no names."""
        return self._names.get(node) or self._name(node)

    def announcements(
        self, question: Payload, known: Collection[int]
    ) -> Iterable[tuple[int, Payload | RejectionReason]]:
        """Ask connected nodes that are not `known` to announce themselves, once each; return what has arrived."""
        connected = set(self._grid.get_node_ids())
        new = sorted(connected - set(known) - set(self._asked.values()))
        self._names |= {node: self._name(node) for node in new}
        messages = [Message(question.to_records(), node, "query", ttl=LOADING, group_id="0") for node in new]
        pushed = zip(self._grid.push_messages(messages), new, strict=True) if new else ()
        self._asked |= {message: node for message, node in pushed if message}
        replies = self._grid.pull_messages(list(self._asked)) if self._asked else ()
        # Also those of nodes that have left since: a node that cannot take part says why, and ends.
        answers = [(self._asked.pop(reply.metadata.reply_to_message_id, None), read_reply(reply)) for reply in replies]
        self._asked = {message: node for message, node in self._asked.items() if node in connected}
        return [(node, answer) for node, answer in answers if node is not None]

    def post(self, kind: Kind, payload: Payload, node: int, number: int) -> tuple[str, float] | None:
        """Send a payload of round `number` to a node, and do not wait.

        Returns:
            the id of the message, and the time of `time.monotonic` after which no reply to it comes; None if the node
            is not connected.
        """
        message = Message(payload.to_records(), node, kind, ttl=self._deadline, group_id=str(number))
        (message_id,) = self._grid.push_messages([message])
        return (message_id, time.monotonic() + self._deadline) if message_id else None

    def answers(self, ids: Iterable[str]) -> Iterable[tuple[str, Payload | RejectionReason]]:
        """Return the replies to posted messages that have arrived, by the id of the message."""
        replies = self._grid.pull_messages(list(ids))
        return [(reply.metadata.reply_to_message_id, read_reply(reply)) for reply in replies]

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace | None = None
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield replies as they arrive; `absent` for those that miss the deadline, or are given up before."""
        messages = [
            Message(payload.to_records(), node, kind, ttl=self._deadline, group_id=str(number))
            for node, payload in payloads.items()
        ]
        ids = zip(self._grid.push_messages(messages), payloads, strict=True)
        waiting = {message_id: node for message_id, node in ids if message_id}  # None: the node is not connected
        yield from ((node, "absent") for node in payloads.keys() - waiting.values())
        end, pause = time.monotonic() + self._deadline, SHORTEST
        while waiting and time.monotonic() < end:
            pause = min(2 * pause, LONGEST)
            for reply in self._grid.pull_messages(list(waiting)):  # one at a time, so that memory holds one
                if (node := waiting.pop(reply.metadata.reply_to_message_id, None)) is not None:
                    yield node, read_reply(reply)
                pause = SHORTEST
            if self._reports and grace:
                yield from ((node, "absent") for node in _give_up(waiting, self._reports, grace))
            time.sleep(pause)
        for message_id, node in waiting.items():
            if self._reports and grace:
                grace.note_missed(node, self._reports.last_report(message_id))
            yield node, "absent"


def _give_up(waiting: dict[str, int], reports: Reports, grace: Grace) -> list[int]:
    """Take out the nodes that are not waited for any more, by message, and return them."""
    over = [message_id for message_id, node in waiting.items() if grace.is_over(node, reports.last_report(message_id))]
    for message_id in over:
        reports.withdraw(message_id)
    return [waiting.pop(message_id) for message_id in over]
