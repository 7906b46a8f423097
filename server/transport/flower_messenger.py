"""The messenger over any Flower grid: payloads become messages, and replies become payloads.

Flower's own strategies begin at round 1 and hold every reply in memory, so fedlora has its own loop over rounds
(server/rounds/loop.py), on `push_messages` and `pull_messages`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload, read_reply

SHORTEST, LONGEST = 0.001, 0.02
"""Seconds between two checks for replies, from first to last; they double while none arrives, since a check takes time
from nodes on the same machine."""


class FlowerMessenger:
    """Sends payloads over a Flower grid."""

    def __init__(self, grid: Grid, deadline: float) -> None:
        """Give nodes `deadline` seconds for each reply."""
        self._grid, self._deadline = grid, deadline

    def nodes(self) -> Iterable[int]:
        """Return Flower's numbers of the connected nodes."""
        return self._grid.get_node_ids()

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield replies as they arrive; `absent` for those that miss the deadline."""
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
            time.sleep(pause)
        for node in waiting.values():
            yield node, "absent"
