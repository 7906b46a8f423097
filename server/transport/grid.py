"""A Flower grid over gRPC with mutual TLS: the same server app and client apps, each node in its own process.

The server's app calls it in its own thread; the connections are in another, with an event loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from uuid import uuid4

from flwr.app import Error, Message

from common.adapters.link_codecs import PLAIN
from common.protocol.channel import NOTICE, TlsMaterial
from common.protocol.flower import GridOfOneRun, give_id, identify
from common.protocol.frames import encode_message
from common.protocol.messages import RejectionReason
from common.protocol.payload import Payload, ReadMessage, read_reply
from server.transport.authentication import NodeCheck
from server.transport.connections import Connections, Outgoing
from server.transport.door.places import Door
from server.transport.door.refusals import RefusalLog
from server.transport.listener import Listener, connection_limit
from server.transport.pending_replies import PendingReplies
from server.transport.quota import NodeQuota, ReplyLimit, TrafficMeter
from server.transport.service import Service, error_reply

Greet = Callable[[str], Iterable[Payload]]
"""Returns the notices to the node of this name when it connects."""
ReplyCheck = Callable[[str, Payload], RejectionReason | None]
"""Returns the reason that this reply of the node of this name is rejected, or None."""
_ABSENT = 5
"""Flower's code for a node that cannot be reached."""


@dataclass(frozen=True)
class NodeGuard:
    """The checks on nodes and their replies, and what a new connection is sent.

    Args:
        authorize_node: checks a node at each of its calls, in the thread of the connections.
        authorize_reply: checks a reply before it reaches the app, in the app's thread.
        greet: called when a node connects, in the thread of the connections.
        quota: limits of each node.
        forms: names of the link codec and the wire that each node has to know.
    """

    authorize_node: NodeCheck
    authorize_reply: ReplyCheck
    greet: Greet
    quota: NodeQuota
    forms: tuple[str, ...] = (PLAIN,)


class GrpcGrid(GridOfOneRun):
    """Nodes that connected to this server; a node's number is new at each of its connections."""

    def __init__(
        self, address: str, tls: TlsMaterial, guard: NodeGuard, spool: Path, health_port: int | None = None
    ) -> None:
        """Listen at once; `spool` is a folder for unnamed files, in which large replies wait for the app.

        Raises:
            TransportError: it cannot listen at this address, or at the port of the health service.
        """
        identify()
        self._authorize_reply = guard.authorize_reply
        self._pending: PendingReplies[Message] = PendingReplies()
        self._refusals = RefusalLog()
        self._connections = Connections(partial(self._pending.fail_node, reply=_absent), guard.quota, self._refusals)
        door = Door(connection_limit(), self._refusals)
        self._service = Service(
            self._connections,
            self._pending,
            guard.authorize_node,
            partial(_encode_greeting, guard.greet),
            self._read_reply,
            spool,
            guard.forms,
            door,
            self._refusals,
        )
        self._listener = Listener(address, tls, self._service, door, self._refusals, health_port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close(finished=failure[0] is None)

    def close(self, finished: bool) -> None:
        """Stop within a few seconds. Nodes end if the run has finished; otherwise they try to connect again."""
        if self._listener.is_running:
            self._listener.call_soon(self._connections.leave_all, "over" if finished else "closing")
            self._listener.close()

    @property
    def port(self) -> int:
        """Port for nodes."""
        return self._listener.port

    @property
    def health_port(self) -> int | None:
        """Port of gRPC's health service on 127.0.0.1; None if there is none."""
        return self._listener.health_port

    @property
    def meters(self) -> Mapping[str, TrafficMeter]:
        """Traffic between the server and each node that has ever called, by name."""
        return dict(self._connections.meters)

    def get_node_ids(self) -> Iterable[int]:
        """Return the numbers of the connected nodes."""
        return self._connections.numbers()

    def names(self) -> list[str]:
        """Return the names of the connected nodes."""
        return self._connections.names()

    def name(self, number: int) -> str:
        """Return the name of the node of this number; the number as text if it is no longer connected."""
        return self._connections.name(number)

    def notify(self, name: str, notice: Payload) -> None:
        """Send a notice to the node of this name, if it is connected; it does not answer."""
        self._listener.call_soon(self._connections.notify, name, _encode_notice(notice))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Put each message into its node's stream; a message to a lost node is answered as absent."""
        return [self._push(give_id(message, uuid4().hex)) for message in messages]

    def _push(self, message: Message) -> str:
        m, frames = message.metadata, encode_message(message)
        limit = ReplyLimit.of(m.message_type, Payload.from_message(message).values)
        self._pending.expect(m.message_id, m.dst_node_id, message, m.ttl, limit)
        outgoing = Outgoing(m.group_id, frames, time.monotonic() + m.ttl)
        self._listener.call_soon(self._service.send, m.dst_node_id, outgoing)
        return m.message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Yield the replies that have arrived, each once; each is read only when it is taken, so memory holds one."""
        replies = (self._pending.pop(message_id) for message_id in message_ids)
        return (reply() for reply in replies if reply)

    def _read_reply(self, node: str, asked: Message, read: Callable[[], Message]) -> Message:
        """Read a reply and authorize it; its metadata are derived from the message, not taken from the node."""
        reply = read()
        if reply.has_error():
            return Message(reply.error, reply_to=asked)
        payload = read_reply(reply)
        if not isinstance(payload, Payload):
            return error_reply(payload, asked)
        if reason := self._authorize_reply(node, payload):
            self._refusals.refuse(node, f"a reply: {reason}", f"a reply of node {node} is rejected: {reason}")
            return error_reply(reason, asked)
        return ReadMessage(payload, reply.content, asked)

    def last_report(self, message_id: str) -> float | None:
        """Return when the node last showed that it works on a message, in seconds of `time.monotonic`, or None."""
        return self._pending.last_report(message_id)

    def withdraw(self, message_id: str) -> None:
        """Wait no more for the reply to a message."""
        self._pending.withdraw(message_id)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, wait for all replies or until the timeout in seconds, then pull."""
        ids = list(self.push_messages(messages))
        self._pending.wait(ids, timeout)
        return list(self.pull_messages(ids))


def _encode_notice(notice: Payload) -> Iterator[bytes]:
    return encode_message(Message(notice.to_records(), 0, NOTICE))


def _encode_greeting(greeting: Greet, name: str) -> list[Iterator[bytes]]:
    return [_encode_notice(notice) for notice in greeting(name)]


def _absent(asked: Message) -> Message:
    return Message(Error(_ABSENT, "absent"), reply_to=asked)
