"""The content of a message, and its form as Flower records."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from common.errors import TransportError
from common.protocol.messages import ADAPTER_STYPE, RejectionReason

Kind = Literal["query", "train", "evaluate"]

_BLOB = "adapter"
"""Name of the blob among a message's arrays."""


@dataclass(frozen=True)
class Payload:
    """The content of a message.

    Args:
        values: plain values.
        blob: the message's own buffer of factors, if it has one.
        parts: further buffers by name, which messages may have in common.
    """

    values: Mapping[str, Any]
    blob: bytes = b""
    parts: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def blob_hash(self) -> str:
        """SHA-256 of the blob in hexadecimal, computed once."""
        return hashlib.sha256(self.blob).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all buffers."""
        return len(self.blob) + sum(map(len, self.parts.values()))

    def to_records(self) -> RecordDict:
        """Return Flower records; a buffer is an array of a type of fedlora, so that no pickle is involved."""
        content = RecordDict({"values": ConfigRecord(dict(self.values))})
        buffers = ({_BLOB: self.blob} if self.blob else {}) | dict(self.parts)
        if buffers:
            arrays = {name: Array("uint8", (len(each),), ADAPTER_STYPE, each) for name, each in buffers.items()}
            content["adapter"] = ArrayRecord(arrays)
        return content

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Undo `to_records`, in a message that has arrived.

        Not through Flower's views by kind: each of these is a cycle, which keeps the blob until the next collection.

        Raises:
            TransportError: it is not a message of fedlora.
        """
        try:
            content: Any = message.content
            buffers = {name: array.data for name, array in content["adapter"].items()} if "adapter" in content else {}
            return cls(dict(content["values"]), buffers.pop(_BLOB, b""), buffers)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise TransportError(f"a message is not one of fedlora ({type(error).__name__})") from None


class ReadMessage(Message):
    """A reply whose payload was read when it arrived, so that it is unpacked and hashed once."""

    def __init__(self, payload: Payload, content: RecordDict, reply_to: Message) -> None:
        super().__init__(content, reply_to=reply_to)
        self.payload = payload


def read_reply(message: Message) -> Payload | RejectionReason:
    """Return the payload of a reply, or its reason word; an error's text counts only if it is a reason word."""
    if isinstance(message, ReadMessage):
        return message.payload
    if message.has_error():
        reason = message.error.reason
        return reason if reason in get_args(RejectionReason) else "failed"  # type: ignore[return-value]
    try:
        payload = Payload.from_message(message)
    except TransportError:
        return "malformed"
    return "malformed" if payload.parts else payload
