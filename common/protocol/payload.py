"""The content of a message, and its form as Flower records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from common.protocol.flower import read_content
from common.protocol.messages import ADAPTER_STYPE, RejectionReason

Kind = Literal["query", "train", "evaluate"]


@dataclass(frozen=True)
class Payload:
    """A message's content: plain values, and one buffer of factors where there are any."""

    values: Mapping[str, Any]
    blob: bytes = b""


def pack(letter: Payload) -> RecordDict:
    """The letter as Flower records; its buffer is one array of a type of our own, so that no pickle is involved."""
    content = RecordDict({"values": ConfigRecord(dict(letter.values))})
    if letter.blob:
        content["adapter"] = ArrayRecord({"adapter": Array("uint8", (len(letter.blob),), ADAPTER_STYPE, letter.blob)})
    return content


def unpack(message: Message) -> Payload | RejectionReason:
    """The letter in a reply, or why it is none. An error's text is taken only if it is one of our words."""
    if message.has_error():
        reason = message.error.reason
        return reason if reason in get_args(RejectionReason) else "failed"  # type: ignore[return-value]
    try:
        return Payload(*read_content(message))
    except (KeyError, TypeError, AttributeError, ValueError):
        return "malformed"
