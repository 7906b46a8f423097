"""A node's connection to the server: outward only, opened again whenever it breaks.

One message at a time is answered, by the same ClientApp as in every other grid, in the thread that runs the link.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from random import SystemRandom
from threading import Event
from typing import Any, Protocol

import grpc
from flwr.app import ConfigRecord, Context, Error, Message
from flwr.clientapp import ClientApp
from grpc import StatusCode

from client.probe import Unreachable, host_and_port, probe
from client.proxy import proxy_of
from common.errors import TransportError
from common.frames import decode, encode
from common.wire import CHANNEL, INBOX, NOTICE, REPLY, SERVICE, Pems

_FAILED = 2
"""Flower's code for a client app that failed."""
_FIRST, _LONGEST = 0.5, 30.0
"""Seconds before the next attempt: after the first failure, and at most."""
_FINAL = {
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.ABORTED,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.UNIMPLEMENTED,
}
"""Statuses that another attempt would not change."""
_MEANING = {
    "unknown": "this node is not on the server's roster; ask the operator for `fedlora keys admit`",
    "revoked": "this node was revoked; ask the operator why",
    "expired": "this node's certificate has expired; ask the operator for a new invite",
    "rank": "this node's `rank` is above what the roster allows it; lower it, or ask the operator for more",
    "refused": "this node is no longer admitted; ask the operator why",
    "replaced": "another process connected with this node's key; run one at a time",
    "malformed": "it cannot read what this node sends; use the same release of fedlora on both sides",
}

log = logging.getLogger(__name__)


class Notary(Protocol):
    """Signs what leaves the node, and takes note of what the server says of it."""

    def sign(self, values: Mapping[str, Any], blob: bytes) -> Mapping[str, Any]:
        """Values that are added to a reply with these values and this blob."""
        ...

    def asked(self, values: Mapping[str, Any]) -> None:
        """An order to train came."""
        ...

    def told(self, values: Mapping[str, Any], blob: bytes) -> None:
        """A notice came."""
        ...


class Link:
    """A node's side of the transport.

    Args:
        server: host and port.
        pems: the node's certificate, its key, and the authority of the server.
        rank: the node's largest, checked against the roster.
        app: answers messages.
        context: what the app is called with; `node_config` holds `node`, the path of the node's file.
        notary: signs each reply.
        admitted: called whenever the server has let the node in; what it raises ends the node.
        limit: bytes of the arrays of one message, at most.

    Raises:
        ConfigError: `server` is not a host and a port.
    """

    def __init__(
        self,
        server: str,
        pems: Pems,
        rank: int,
        app: ClientApp,
        context: Context,
        notary: Notary,
        admitted: Callable[[], None] = lambda: None,
        limit: int = 2**31,
    ) -> None:
        self._host, _ = host_and_port(server)
        self._server, self._pems, self._app, self._context = server, pems, app, context
        self._hello = json.dumps({"rank": rank}).encode()
        self._notary, self._admitted, self._limit = notary, admitted, limit
        self._stopped = Event()
        self._stream: Any = None
        self._failures = 0

    def run(self) -> None:
        """Answer messages until the server's run is over or `stop` is called; whatever may heal is tried for ever.

        Raises:
            TransportError: the server does not let this node in, or one does not trust the other.
        """
        while not self._stopped.is_set():
            try:
                probe(self._server, self._pems, proxy_of(self._host))
                if self._stopped.is_set() or self._session():
                    return
            except Unreachable as error:
                pause = min(_FIRST * 2**self._failures, _LONGEST) * SystemRandom().uniform(0.5, 1)
                self._failures = min(self._failures + 1, 10)
                log.warning("%s; trying again in %.1f s", error, pause)
                self._stopped.wait(pause)

    def stop(self) -> None:
        """End `run` from any thread, at once or when the app has answered the message that it works on."""
        self._stopped.set()
        if self._stream:
            self._stream.cancel()

    def _session(self) -> bool:
        """Answer messages over one connection; whether the run is over."""
        with self._channel() as channel:
            self._stream = channel.unary_stream(f"/{SERVICE}/{INBOX}")(self._hello)
            if self._stopped.is_set():
                self._stream.cancel()
            try:
                self._answer_all(channel)
            except grpc.RpcError as error:
                return self._broken(error)
            finally:
                self._stream.cancel()
        return True

    def _channel(self) -> grpc.Channel:
        proxy = proxy_of(self._host)
        way = [("grpc.http_proxy", proxy)] if proxy else [("grpc.enable_http_proxy", 0)]
        pems = self._pems
        credentials = grpc.ssl_channel_credentials(pems.ca_pem, pems.key_pem, pems.certificate_pem)
        return grpc.secure_channel(self._server, credentials, [*CHANNEL, *way])

    def _answer_all(self, channel: grpc.Channel) -> None:
        if dict(self._stream.initial_metadata()).get("admitted"):
            log.info("connected to %s", self._server)
            self._failures = 0
            self._admitted()
        reply = channel.stream_unary(f"/{SERVICE}/{REPLY}")
        for first in self._stream:
            message = decode(first, self._stream, self._limit)
            if message.metadata.message_type == NOTICE:
                self._notary.told(*_opened(message))
                continue
            try:
                reply(self._answer(message))
            except grpc.RpcError as error:  # If the connection broke, the stream tells next.
                log.warning("%s did not take a reply: %s", self._server, error.details())

    def _answer(self, message: Message) -> Iterator[bytes]:
        """The frames of the app's reply; of an exception nothing but a fixed word leaves the node."""
        try:
            if message.metadata.message_type == "train":
                self._notary.asked(_opened(message)[0])
            return encode(self._signed(self._app(message, self._context)))
        except Exception as error:
            log.error("a %s message failed: %s", message.metadata.message_type, error, exc_info=error)
            return encode(Message(Error(_FAILED, "failed"), reply_to=message))

    def _signed(self, reply: Message) -> Message:
        if reply.has_content():
            values, blob = _opened(reply)
            reply.content["values"] = ConfigRecord(values | dict(self._notary.sign(values, blob)))
        return reply

    def _broken(self, error: Any) -> bool:
        """Whether the stream broke because `stop` ended it."""
        if self._stopped.is_set():
            return True
        word = error.details() or error.code().name
        if error.code() in _FINAL:
            raise TransportError(f"{self._server} does not let this node in: {_MEANING.get(word, word)}") from error
        raise Unreachable(f"the connection to {self._server} is lost ({word})") from error


def _opened(message: Message) -> tuple[dict[str, Any], bytes]:
    """Values and blob, not through Flower's views by kind: each is a cycle, which keeps the blob for a while."""
    content: Any = message.content
    return dict(content["values"]), content["adapter"]["adapter"].data if "adapter" in content else b""
