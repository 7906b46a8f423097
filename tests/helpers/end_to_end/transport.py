"""Both ends of a connection for tests: a server's grid, a real node in a thread, and one that does as it is told."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from client.network.link import Link
from client.network.responder import Responder
from common.protocol.channel import FRAME, INBOX, REPLY, REPLY_BYTES, SERVICE
from common.protocol.frames import decode_message, encode_message
from common.protocol.messages import ADAPTER_STYPE
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.quota import NodeQuota

OPEN = NodeGuard(lambda name, key, rank: None, lambda name, reply: None, lambda name: (), NodeQuota())
"""Lets in whoever has a certificate."""


def guard(
    admit=OPEN.authorize_node, verify=lambda name, reply: True, greeting=OPEN.greet, forms=("plain",), **limits
) -> NodeGuard:
    """Make a guard that accepts the replies for which `verify` holds, of nodes that know the forms."""
    check = lambda *reply: None if verify(*reply) else "signature"  # noqa: E731
    return NodeGuard(admit, check, greeting, NodeQuota(**limits), forms)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return when the condition holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def content(blob: bytes = b"", **values) -> RecordDict:
    records = RecordDict({"values": ConfigRecord(values)})
    if blob:
        records["adapter"] = ArrayRecord({"adapter": Array("uint8", (len(blob),), ADAPTER_STYPE, blob)})
    return records


def blob_of(message: Message) -> bytes:
    return message.content["adapter"]["adapter"].data


def values_of(message: Message) -> dict:
    return dict(message.content["values"])


ORDERED = 2**27
"""Bytes of arrays that a reply to `ask` may have."""


def ask(grid: GrpcGrid, nodes: Iterable[int] | None = None, blob: bytes = b"", ttl: float = 60.0, **values):
    """Make a message with these values to each node."""
    nodes, values = grid.get_node_ids() if nodes is None else nodes, {REPLY_BYTES: ORDERED} | values
    return [Message(content(blob, **values), node, "train", ttl=ttl, group_id="1") for node in nodes]


def echo(message: Message, context: Context) -> Message:
    """Reply with the node's name and the content that it was sent, without the limit of its reply."""
    values = values_of(message) | {"name": context.node_config["node"]}
    values.pop(REPLY_BYTES, None)
    blob = blob_of(message) if "adapter" in message.content else b""
    return Message(content(blob, **values), reply_to=message)


@dataclass(frozen=True)
class RecordingAuditor:
    """Signs with `sign`; keeps what it is told and asked."""

    __test__ = False
    sign: Callable = lambda reply: {}
    notices: list = field(default_factory=list)
    orders: list = field(default_factory=list)

    def on_notice(self, values, blob) -> None:
        self.notices.append((values, blob))

    def on_connect(self) -> None:
        pass

    def on_request(self, kind, values) -> None:
        self.orders.append(values)


SILENT = RecordingAuditor()


class Node:
    """A real node, in a thread."""

    def __init__(self, server, tls, name: str, app=echo, rank: int = 4, auditor: object = SILENT, **options) -> None:
        server = server if isinstance(server, str) else f"127.0.0.1:{server}"
        context = Context(1, 1, {"node": name}, RecordDict(), {})
        self.link = Link(server, tls, rank, Responder(lambda: app, context, auditor), **options)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.link.run()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        """Return the error that ended it by itself."""
        self.thread.join(30)
        assert not self.thread.is_alive(), "the node runs on"
        return self.error

    def stop(self) -> None:
        self.link.stop()
        self.ended()


@contextmanager
def nodes(server, authority, *names: str, **settings):
    """Real nodes that are stopped at the end."""
    running = [Node(server, authority.node(name), name, **settings) for name in names]
    try:
        yield running
    finally:
        for node in running:
            node.stop()


class RawNode:
    """A node that sends what it is told to."""

    def __init__(self, port: int, tls, rank: int = 4) -> None:
        credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.certificate_pem)
        options = [("grpc.max_receive_message_length", FRAME), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)
        self.call = self.channel.stream_unary(f"/{SERVICE}/{REPLY}")
        self.stream = self.open(b'{"rank": %d}' % rank)

    def open(self, hello: bytes):
        return self.channel.unary_stream(f"/{SERVICE}/{INBOX}")(hello)

    def admitted(self) -> "RawNode":
        assert dict(self.stream.initial_metadata())
        return self

    def receive(self) -> Message:
        return decode_message(next(self.stream), self.stream, 2**30)

    def reply(self, message: Message, blob: bytes = b"", **values) -> None:
        self.call(encode_message(Message(content(blob, **values), reply_to=message)), timeout=30)

    def refused(self, frames) -> tuple[grpc.StatusCode, str]:
        """Return the status and the reason word with which the server rejects these frames."""
        try:
            self.call(iter(frames), timeout=30)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError("the server took it")

    def close(self) -> None:
        self.channel.close()


def connected(grid, count):
    until(lambda: len(grid.get_node_ids()) == count)
    return grid.get_node_ids()


def pull(grid, ids):
    """Return the one reply, as soon as it has come."""
    replies = []
    until(lambda: replies.extend(grid.pull_messages(ids)) or replies)
    (reply,) = replies
    return reply
