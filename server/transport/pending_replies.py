"""Replies that the server waits for: each counts once, and only from the node that was asked.

The server's app sends messages and takes replies in its own thread; the connections deliver replies in another.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from threading import Condition
from typing import Generic, TypeVar

from server.transport.quota import ANNOUNCEMENT, ReplyLimit

Message = TypeVar("Message")
_NO_ARRAYS = ReplyLimit()


@dataclass
class PendingReply(Generic[Message]):
    """A message to a node.

    Args:
        node: its number.
        message: the message that it was sent.
        expires: time after which nobody waits for the reply, in seconds of `time.monotonic`.
        limit: of the reply's size.
        reply: reads the reply, once there is one.
        claimed: a reply is being received.
        reported: time of the node's last report, or of the last bytes of its reply, in seconds of `time.monotonic`.
        step: the last step that it reported.
    """

    node: int
    message: Message
    expires: float
    limit: ReplyLimit
    reply: Callable[[], Message] | None = None
    claimed: bool = False
    reported: float | None = None
    step: int = 0


class PendingReplies(Generic[Message]):
    """Messages by id, until their replies are taken."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._pending: dict[str, PendingReply[Message]] = {}

    def expect(
        self, message_id: str, node: int, message: Message, seconds: float, limit: ReplyLimit = _NO_ARRAYS
    ) -> None:
        """Expect a reply to this message within this time in seconds, and forget messages that have expired."""
        now = time.monotonic()
        with self._changed:
            self._pending = {i: asked for i, asked in self._pending.items() if asked.expires > now}
            self._pending[message_id] = PendingReply(node, message, now + seconds, limit)

    def longest_header(self, node: int) -> int:
        """Return the most bytes that the first frame of a reply of this node may have, late announcements included."""
        with self._changed:
            awaited = [asked.limit for asked in self._pending.values() if asked.node == node and not asked.reply]
        return max((limit.header for limit in awaited), default=ANNOUNCEMENT)

    def claim(self, message_id: str, node: int) -> PendingReply[Message] | None:
        """Return the message that this node begins to reply to; None if no reply to this id is expected from it."""
        with self._changed:
            asked = self._pending.get(message_id)
            if asked is None or asked.node != node or asked.claimed or asked.reply or asked.expires < time.monotonic():
                return None
            asked.claimed, asked.reported = True, time.monotonic()
            return asked

    def note_report(self, message_id: str, node: int, step: int) -> None:
        """Note that this node has done further steps for a message, if a reply to it is expected from the node."""
        with self._changed:
            asked = self._pending.get(message_id)
            if asked and asked.node == node and step > asked.step:
                asked.step, asked.reported = step, time.monotonic()

    def last_report(self, message_id: str) -> float | None:
        """Return when the node last showed that it works on a message, or None."""
        with self._changed:
            asked = self._pending.get(message_id)
            return asked.reported if asked else None

    def withdraw(self, message_id: str) -> None:
        """Forget a message: a reply to it is no longer expected."""
        with self._changed:
            self._pending.pop(message_id, None)

    def release(self, asked: PendingReply[Message]) -> None:
        """Give up a claim, after a reply that broke off; the node may send it again."""
        with self._changed:
            asked.claimed = False

    def resolve(self, asked: PendingReply[Message], reply: Callable[[], Message]) -> None:
        """Take this reply, unless there is one already."""
        with self._changed:
            if asked.reply is None:
                asked.reply = reply
                self._changed.notify_all()

    def fail_node(self, node: int, reply: Callable[[Message], Message]) -> None:
        """Give this reply to each message of a lost node that has none."""
        with self._changed:
            lost = [asked for asked in self._pending.values() if asked.node == node]
        for asked in lost:
            self.resolve(asked, partial(reply, asked.message))

    def pop(self, message_id: str) -> Callable[[], Message] | None:
        """Return the reply to this message, if there is one, and forget the message."""
        with self._changed:
            asked = self._pending.get(message_id)
            return self._pending.pop(message_id).reply if asked and asked.reply else None

    def wait(self, message_ids: Collection[str], timeout: float | None) -> None:
        """Wait until each message has a reply or is forgotten, or until the timeout in seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not any(self._waits(i) for i in message_ids), timeout)

    def _waits(self, message_id: str) -> bool:
        asked = self._pending.get(message_id)
        return asked is not None and asked.reply is None
