"""The gRPC methods that nodes call: one streams messages to the node, one takes a reply a call, one a report of steps.

Everything here runs in the thread of the event loop.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

import grpc
from flwr.app import Error, Message
from grpc import StatusCode

from common.errors import TransportError
from common.protocol.channel import FRAME, INBOX, PROGRESS, REPLY, NodeHello, StepReport
from common.protocol.frames import IncomingMessage, read_first_frame
from common.protocol.message_header import MessageHeader
from server.transport.authentication import CallAuthenticator, NodeCheck
from server.transport.connections import Connection, Connections, End, Outgoing
from server.transport.door.places import Door
from server.transport.door.refusals import RefusalLog
from server.transport.peer import Peer
from server.transport.pending_replies import PendingReplies, PendingReply
from server.transport.quota import ReplyLimit

EncodeGreeting = Callable[[str], Iterable[Iterator[bytes]]]
ReadReply = Callable[[str, Message, Callable[[], Message]], Message]
"""Returns the reply of the node of this name to this message, with a function that reads it."""
FIRST_FRAME = 60.0
"""Seconds that a call may take to send its first frame."""
FAILED = 2
"""Flower's code for an app that failed."""
_ENDS = {
    "replaced": StatusCode.ABORTED,
    "closing": StatusCode.UNAVAILABLE,
    "malformed": StatusCode.INVALID_ARGUMENT,
    "refused": StatusCode.PERMISSION_DENIED,
}


def error_reply(word: str, asked: Message) -> Message:
    """Return an error for the server's app, in place of a reply that does not count."""
    return Message(Error(FAILED, word), reply_to=asked)


class Service:
    """Accepts nodes, sends them their messages, and takes their replies.

    Args:
        connections: the connected nodes.
        pending: the messages that wait for a reply.
        admit: checks a node against the roster.
        greeted: returns the frames of each notice to a node of this name that has connected.
        opened: reads a reply in the thread of the server's app.
        spool: folder for unnamed files, in which replies larger than a frame stay until they are taken.
        forms: names of the link codec and the wire that a node has to know.
        door: is told which connection an admitted node uses.
        refusals: say in the log what is refused.
    """

    def __init__(
        self,
        connections: Connections,
        pending: PendingReplies[Message],
        admit: NodeCheck,
        greeted: EncodeGreeting,
        opened: ReadReply,
        spool: Path,
        forms: tuple[str, ...],
        door: Door,
        refusals: RefusalLog,
    ) -> None:
        self._connections, self._pending, self._door, self._refusals = connections, pending, door, refusals
        self._authenticator = CallAuthenticator(connections, admit, refusals)
        self._encode_greeting, self._read_reply, self._spool = greeted, opened, spool
        self._forms = forms

    def methods(self) -> dict[str, Any]:
        """Return the methods for a gRPC server, by name."""
        return {
            INBOX: grpc.stream_stream_rpc_method_handler(self._open),  # a stream, so that the log names who compresses
            REPLY: grpc.stream_unary_rpc_method_handler(self._reply),
            PROGRESS: grpc.unary_unary_rpc_method_handler(self._progress),
        }

    async def refuse(self, context: Any) -> None:
        """End a call of a method that does not exist."""
        peer = await self._authenticator.authenticate(context)
        await self._authenticator.abort(peer, "method", context, StatusCode.UNIMPLEMENTED)

    def send(self, number: int, message: Outgoing) -> None:
        """Send a message to the node of this number, if the roster still admits it."""
        self._authenticator.recheck(self._connections.get(number))
        self._connections.send(number, message)

    async def _open(self, frames: AsyncIterator[bytes], context: Any) -> None:
        peer = await self._authenticator.authenticate(context)
        hello = NodeHello.from_json(await self._first(frames, peer))
        if hello is None:
            await self._authenticator.abort(peer, "malformed", context, StatusCode.INVALID_ARGUMENT)
        await self._authenticator.authorize(peer, hello.rank, context)
        if unknown := [form for form in self._forms if form not in hello.codecs]:
            await self._authenticator.abort(peer, f"codec {unknown[0]}", context, StatusCode.INVALID_ARGUMENT)
        with self._door.visit(context.peer(), peer.name, stream=True):
            await self._stay(self._connections.enter(peer, hello.rank), context)

    async def _stay(self, connection: Connection, context: Any) -> None:
        """Send a connected node its messages until its stream ends."""
        try:
            # The greeting goes before any message, so that the node has the current roster when it gets one.
            for notice in self._encode_greeting(connection.peer.name):
                self._connections.notify(connection.peer.name, notice)
            await context.send_initial_metadata((("admitted", "yes"),))
            why = await self._deliver(connection, context)
        finally:
            self._connections.leave(connection, "gone")
        if why in _ENDS:
            await context.abort(_ENDS[why], why)

    async def _deliver(self, connection: Connection, context: Any) -> End:
        meter = self._connections.meter(connection.peer.name)
        while not isinstance(item := await connection.outbox.get(), str):
            if item.group:
                meter.begin(item.group)
            for frame in item.frames:
                meter.sent += len(frame)
                await context.write(frame)
        return item

    async def _reply(self, frames: AsyncIterator[bytes], context: Any) -> bytes:
        peer = await self._authenticator.authenticate(context)
        connection = self._connections.find(peer)
        if connection is None:
            await self._authenticator.abort(peer, "stale", context)
        await self._authenticator.authorize(peer, connection.rank, context)
        with self._door.visit(context.peer(), peer.name):
            return await self._take(connection, frames, context)

    async def _progress(self, request: bytes, context: Any) -> bytes:
        peer = await self._authenticator.authenticate(context)
        connection = self._connections.find(peer)
        if connection is None:
            await self._authenticator.abort(peer, "stale", context)
        await self._authenticator.authorize(peer, connection.rank, context)
        report = StepReport.from_json(request)
        if report is None:
            await self._authenticator.abort(peer, "malformed", context, StatusCode.INVALID_ARGUMENT)
        with self._door.visit(context.peer(), peer.name):
            self._connections.meter(peer.name).receive(len(request))
            self._pending.note_report(report.message, connection.number, report.step)
        return b""

    async def _take(self, connection: Connection, frames: AsyncIterator[bytes], context: Any) -> bytes:
        """Take a reply of a connected node."""
        peer = connection.peer
        asked, head = await self._begin(connection, frames, context)
        try:
            async with asyncio.timeout(asked.expires - time.monotonic()):
                incoming = await self._receive(head, frames, peer, asked)
        except TimeoutError:
            self._pending.release(asked)
            await self._authenticator.abort(peer, "stale", context)
        except (TransportError, OSError) as error:
            await self._give_up(peer, asked, error, context)
        except BaseException:
            self._pending.release(asked)
            raise
        if incoming.left:  # It broke off, which looks like the end of the frames; the node may send it again.
            incoming.discard()
            self._pending.release(asked)
            await self._authenticator.abort(peer, "broken", context)
        self._pending.resolve(asked, partial(self._read_reply, peer.name, asked.message, incoming.finish))
        return b""

    async def _begin(
        self, connection: Connection, frames: AsyncIterator[bytes], context: Any
    ) -> tuple[PendingReply[Message], MessageHeader]:
        """Return the message that the reply answers, and the reply's header; its arrays are not received yet."""
        peer, meter = connection.peer, self._connections.meter(connection.peer.name)
        try:
            first = await self._first(frames, peer)
            meter.receive(len(first))
            ReplyLimit(self._pending.longest_header(connection.number)).check(len(first), 0)
            head = read_first_frame(first)
        except asyncio.CancelledError:  # A call that is compressed is cancelled by gRPC.
            self._connections.leave(connection, "malformed")
            raise
        except TransportError as error:
            self._complain(peer, error)
            # The message that it answers is unknown, so the node is treated as lost.
            self._connections.leave(connection, "malformed")
            await self._authenticator.abort(peer, "malformed", context, StatusCode.INVALID_ARGUMENT)
        asked = self._pending.claim(head.message.metadata.reply_to_message_id, connection.number)
        if asked is None:
            await self._authenticator.abort(peer, "stale", context)
        try:
            asked.limit.check(len(first), head.size)
        except TransportError as error:
            await self._give_up(peer, asked, error, context)
        return asked, head

    async def _first(self, frames: AsyncIterator[bytes], peer: Peer) -> bytes:
        """Return the first frame of a call; empty if there is none in time, which is said in the log."""
        first = b""
        try:
            async with asyncio.timeout(FIRST_FRAME):
                first = await anext(aiter(frames), b"")
        except TimeoutError:
            pass
        finally:
            if not first:  # gRPC does not tell this process why it ends a call.
                text = f"a call of node {peer.name} has no first frame: it was compressed, late or broken off"
                self._refusals.refuse(peer.name, "no first frame", text, logging.ERROR)
        return first

    async def _receive(
        self, head: MessageHeader, frames: AsyncIterator[bytes], peer: Peer, asked: PendingReply[Message]
    ) -> IncomingMessage:
        meter, incoming = self._connections.meter(peer.name), IncomingMessage(head, self._store)
        try:
            async for frame in frames:
                meter.receive(len(frame))
                incoming.add(frame)
                asked.reported = time.monotonic()
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def _store(self, size: int) -> IO[bytes]:
        return BytesIO() if size <= FRAME else TemporaryFile(dir=self._spool)

    async def _give_up(self, peer: Peer, asked: PendingReply[Message], error: Exception, context: Any) -> NoReturn:
        """Fail a message whose reply is invalid or cannot be stored, and end the call."""
        self._complain(peer, error)
        word = "malformed" if isinstance(error, TransportError) else "failed"
        self._pending.resolve(asked, partial(error_reply, word, asked.message))
        await self._authenticator.abort(peer, word, context)

    def _complain(self, peer: Peer, error: Exception) -> None:
        self._refusals.refuse(peer.name, "a reply", f"a reply of node {peer.name}: {error}", logging.ERROR)
