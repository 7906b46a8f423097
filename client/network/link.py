"""A node's connection to the server: always opened by the node, and reopened whenever it breaks.

It answers one message at a time, in the thread that runs the link.
"""

import logging
from collections.abc import Iterator
from random import SystemRandom
from threading import Event, Timer
from typing import Any

import grpc
from flwr.app import Message
from grpc import StatusCode

from client.network import diagnosis
from client.network.dial import Patience
from client.network.probe import Unreachable, Untrusted, host_and_port, probe
from client.network.proxy import find_proxy
from client.network.responder import Responder
from client.network.step_reports import StepReports
from client.reports import reporting
from common.errors import TransportError
from common.log_format import event
from common.protocol.channel import CHANNEL, INBOX, NOTICE, PROGRESS, REPLY, SERVICE, NodeHello, TlsMaterial
from common.protocol.frames import decode_message

_FIRST, _LONGEST = 0.5, 30.0
"""Seconds before the next attempt: after the first failure, and at most."""
DISTRUST = 86_400.0
"""Seconds for which a node tries on while what answers cannot be trusted, since the last accepted connection."""
SAY_AGAIN = 60.0
"""Seconds after which it says the same reason again."""
LAST_WORD = 30.0
"""Seconds that a node whose base or rows cannot be used waits for a question, to which it answers with the reason."""
_FINAL = {
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.ABORTED,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.UNIMPLEMENTED,
}
"""Statuses that another attempt would not change."""
log = logging.getLogger(__name__)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


logging.getLogger("grpc._cython.cygrpc").addFilter(_without_traceback)  # a server may send metadata that are no text


class Link:
    """A node's side of the transport.

    Args:
        server: host and port.
        tls: the node's certificate, its key, and the authority of the server.
        rank: the node's rank, checked against the roster.
        responder: answers the server's messages.
        limit: largest number of bytes in the arrays of one message.
        fail_fast: end at the first certificate that cannot be trusted.

    Raises:
        ConfigError: `server` is not a host and a port.
    """

    def __init__(
        self,
        server: str,
        tls: TlsMaterial,
        rank: int,
        responder: Responder,
        limit: int = 2**31,
        fail_fast: bool = False,
    ) -> None:
        self._host, _ = host_and_port(server)
        self._server, self._tls, self._responder, self._limit = server, tls, responder, limit
        self._hello = NodeHello(rank).to_json()
        self._stopped = Event()
        self._stream: Any = None
        self._failures = 0
        self._distrust = Patience(0.0 if fail_fast else DISTRUST, SAY_AGAIN)

    def run(self) -> None:
        """Answer messages until the server's run is over or `stop` is called; temporary failures are retried for ever.

        Raises:
            TransportError: the server rejects this node; or one has not trusted the other for a day, or at all if the
                link fails fast.
            FedloraError: the node's base model or rows cannot be used.
        """
        while not self._stopped.is_set():
            try:
                probe(self._server, self._tls, find_proxy(self._host))
                if self._stopped.is_set() or self._session():
                    return
            except Unreachable as error:
                self._pause(error)
            except Untrusted as error:
                if self._distrust.is_over():
                    raise
                self._pause(error, said=not self._distrust.is_due(str(error)))

    def _pause(self, error: TransportError, said: bool = False) -> None:
        """Wait for the next attempt, longer each time; `said`: the reason was told a moment ago."""
        pause = min(_FIRST * 2**self._failures, _LONGEST) * SystemRandom().uniform(0.5, 1)
        self._failures = min(self._failures + 1, 10)
        if not said:
            told = {"server": self._server, "reason": str(error), "seconds": round(pause, 1)}
            extra = event("untrusted", **told) if isinstance(error, Untrusted) else event("unreachable", **told)
            log.warning("%s; trying again in %.1f s", error, pause, extra=extra)
        self._stopped.wait(pause)

    def stop(self) -> None:
        """End `run` from any thread, at once or when the app has answered the message that it works on."""
        self._stopped.set()
        if self._stream:
            self._stream.cancel()

    def _session(self) -> bool:
        """Answer messages over one connection; return whether the run is over."""
        with self._channel() as channel:
            self._stream = channel.unary_stream(f"/{SERVICE}/{INBOX}")(self._hello)
            if self._stopped.is_set():
                self._stream.cancel()
            try:
                self._answer_all(channel)
            except grpc.RpcError as error:
                if not self._responder.fault:
                    return self._is_stopped(error)
            finally:
                self._stream.cancel()
        if self._responder.fault:
            raise self._responder.fault
        return True

    def _channel(self) -> grpc.Channel:
        proxy = find_proxy(self._host)
        way = [("grpc.http_proxy", proxy)] if proxy else [("grpc.enable_http_proxy", 0)]
        tls = self._tls
        credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.certificate_pem)
        return grpc.secure_channel(self._server, credentials, [*CHANNEL, *way])

    def _answer_all(self, channel: grpc.Channel) -> None:
        if dict(self._stream.initial_metadata()).get("admitted"):
            log.info("connected to %s", self._server, extra=event("connected", server=self._server))
            self._failures = 0
            self._distrust.end()
            self._responder.prepare()
        if self._responder.fault:  # The server asks a node as soon as it has connected, so this does not wait for long.
            timer = Timer(LAST_WORD, self._stream.cancel)
            timer.daemon = True  # or the process would end with it
            timer.start()
        reply = channel.stream_unary(f"/{SERVICE}/{REPLY}")
        reports = StepReports(channel.unary_unary(f"/{SERVICE}/{PROGRESS}"))
        for first in self._stream:
            if (frames := self._answer(decode_message(first, self._stream, self._limit), reports)) is None:
                continue
            try:
                reply(frames)
            except grpc.RpcError as error:  # If the connection broke, the stream raises next.
                log.warning("%s did not accept a reply: %s", self._server, error.details())
            if self._responder.fault:
                return

    def _answer(self, message: Message, reports: StepReports) -> Iterator[bytes] | None:
        """Return the frames of the reply, if there is one, and report the steps meanwhile."""
        if message.metadata.message_type != NOTICE:
            reports.begin(message.metadata.message_id)
        with reporting(reports.report):
            return self._responder.reply_to(message)

    def _is_stopped(self, error: Any) -> bool:
        """Return True if `stop` ended the stream; raise the cause otherwise."""
        if self._stopped.is_set():
            return True
        word = error.details() or error.code().name
        if error.code() in _FINAL:
            raise TransportError(f"{self._server} rejects this node: {diagnosis.explain_refusal(word)}") from error
        raise Unreachable(f"the connection to {self._server} is lost ({word})") from error
