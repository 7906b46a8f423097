"""The content of a message, and its form as Flower records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from common.protocol.messages import ADAPTER_STYPE, RejectionReason

Kind = Literal["query", "train", "evaluate"]


@dataclass(frozen=True)
class Payload:
    """The content of a message: plain values, and one buffer of factors if there are any."""

    values: Mapping[str, Any]
    blob: bytes = b""

    def to_records(self) -> RecordDict:
        """Return Flower records; the buffer is one array of a type of fedlora, so that no pickle is involved."""
        content = RecordDict({"values": ConfigRecord(dict(self.values))})
        if self.blob:
            array = Array("uint8", (len(self.blob),), ADAPTER_STYPE, self.blob)
            content["adapter"] = ArrayRecord({"adapter": array})
        return content

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Undo `to_records`, in a message that has arrived.

        Not through Flower's views by kind: each of these is a cycle, which keeps the blob until the next collection.

        Raises:
            KeyError, TypeError, AttributeError, ValueError: it is not a message of fedlora.
        """
        content: Any = message.content
        return cls(dict(content["values"]), content["adapter"]["adapter"].data if "adapter" in content else b"")


def read_reply(message: Message) -> Payload | RejectionReason:
    """Return the payload of a reply, or its reason word; an error's text counts only if it is a reason word."""
    if message.has_error():
        reason = message.error.reason
        return reason if reason in get_args(RejectionReason) else "failed"  # type: ignore[return-value]
    try:
        return Payload.from_message(message)
    except (KeyError, TypeError, AttributeError, ValueError):
        return "malformed"
