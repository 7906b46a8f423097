"""A Flower grid in memory that delivers what a test tells it to."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.protocol.flower import give_id, identify
from common.protocol.payload import Payload
from tests.helpers.server.exchange import NumpyNode

Answer = Callable[[Message], Iterable[Message]]
"""The replies to a message: none, one, or more than there should be."""


class MemoryGrid(Grid):
    """Each message is answered when replies are pulled; `gone` are nodes to which nothing can be pushed."""

    def __init__(self, answers: Mapping[int, Answer], gone: Iterable[int] = ()) -> None:
        identify()
        self.answers, self.gone = answers, set(gone)
        self.pushed: list[Message] = []
        self.strays: list[Message] = []
        self._open: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.answers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str | None:
        if message.metadata.dst_node_id in self.gone:
            return None  # as Flower's own grid over HTTP does
        message_id = f"message {len(self.pushed)}"
        self.pushed.append(give_id(message, message_id))
        self._open[message_id] = self.pushed[-1]
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        assert all(isinstance(message_id, str) for message_id in message_ids)  # as protobuf asks
        asked = [self._open.pop(message_id) for message_id in message_ids if message_id in self._open]
        answers = [reply for message in asked for reply in self.answers[message.metadata.dst_node_id](message)]
        return [*self.strays, *answers]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Any) -> None:
        pass

    @property
    def run(self) -> Any:
        raise NotImplementedError


def reply(message: Message, payload: Payload) -> Message:
    """Return a client app's reply with this payload."""
    return Message(payload.to_records(), reply_to=message)


def answering(node: NumpyNode) -> Answer:
    """Return the client app of a node in NumPy."""

    def answer(message: Message) -> Iterable[Message]:
        payload = Payload.from_message(message)
        return [reply(message, node.answer(message.metadata.message_type, payload))]

    return answer
