"""A node's replies: those of its ClientApp, signed; an exception leaves the node only as a fixed word."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, get_args

from flwr.app import ConfigRecord, Context, Error, Message
from flwr.clientapp import ClientApp

from common.errors import FedloraError, ModelError, TransportError
from common.huggingface.fingerprint_parts import refusal_of
from common.protocol.channel import NOTICE
from common.protocol.frames import encode_message
from common.protocol.messages import fault_word
from common.protocol.payload import Kind, Payload

_FAILED = 2
"""Flower's code for a client app that failed."""
log = logging.getLogger(__name__)


class Auditor(Protocol):
    """Signs the replies of the node, and audits the server's requests and notices."""

    def sign(self, reply: Payload) -> Mapping[str, Any]:
        """Return the values that are added to a reply."""
        ...

    def on_connect(self) -> None:
        """Begin a connection."""
        ...

    def on_request(self, kind: str, values: Mapping[str, Any]) -> str | None:
        """Return why a request to train or to evaluate is not to be obeyed, or None."""
        ...

    def on_notice(self, values: Mapping[str, Any], blob: bytes) -> None:
        """Process a notice."""
        ...


class Responder:
    """Answers one message at a time.

    Args:
        load: makes the app, once the server has accepted the node.
        context: the argument of the app; its `node_config` contains `node`, the path of the node's file.
        auditor: signs each reply, and audits what the server sends.
        ends_refused: a node whose fingerprint is not the run's has a `fault` once it has announced itself; otherwise it
            stays, since another run may follow.
    """

    def __init__(
        self, load: Callable[[], ClientApp], context: Context, auditor: Auditor, ends_refused: bool = False
    ) -> None:
        self._load, self._context, self._auditor, self._ends_refused = load, context, auditor, ends_refused
        self._app: ClientApp | None = None
        self.fault: FedloraError | None = None

    def prepare(self) -> None:
        """Begin a connection, and load the app, unless it is loaded.

        If that fails, `fault` is the error, and the next answer its word.
        """
        self._auditor.on_connect()
        try:
            self._app = self._app or self._load()
        except FedloraError as error:
            self.fault = error

    def reply_to(self, message: Message) -> Iterator[bytes] | None:
        """Return the frames of the reply; None for a notice, which has none."""
        if message.metadata.message_type == NOTICE:
            notice = Payload.from_message(message)
            self._auditor.on_notice(notice.values, notice.blob)
            return None
        if self.fault:
            return encode_message(Message(Error(_FAILED, fault_word(self.fault)), reply_to=message))
        try:
            return encode_message(self._sign(self._reply(message)))
        except Exception as error:
            trace = None if isinstance(error, FedloraError) else error
            log.error("%s message failed: %s", _spell(message.metadata.message_type), error, exc_info=trace)
            return encode_message(Message(Error(_FAILED, "failed"), reply_to=message))

    def _reply(self, message: Message) -> Message:
        assert self._app is not None
        # Flower dispatches "train.default" as it does "train".
        kind, _, action = message.metadata.message_type.partition(".")
        if kind not in get_args(Kind) or action not in ("", "default"):
            raise TransportError("this release has no such request; use the same release on both sides")
        if kind != "query" and (fault := self._auditor.on_request(kind, Payload.from_message(message).values)):
            log.error("declined %s message, policy: %s", _spell(kind), fault)
            return Message(Error(_FAILED, "policy"), reply_to=message)
        reply = self._app(message, self._context)
        if kind == "query" and reply.has_content():
            self._note_refusal(Payload.from_message(message).values, Payload.from_message(reply).values)
        return reply

    def _note_refusal(self, asked: Mapping[str, Any], announced: Mapping[str, Any]) -> None:
        if self._ends_refused and (refusal := refusal_of(asked, announced)):
            self.fault = ModelError(f"{refusal}; compare the node's file with its operator's base.toml")

    def _sign(self, reply: Message) -> Message:
        if reply.has_content():
            sent = Payload.from_message(reply)
            reply.content["values"] = ConfigRecord({**sent.values, **self._auditor.sign(sent)})
        return reply


def _spell(kind: str) -> str:
    """Return a kind of message with its article; nothing in it acts on a terminal."""
    word = ascii(kind[:12]).strip("'")
    return f"{'an' if word.startswith('e') else 'a'} {word}"
