"""The content of a message, and its form as Flower records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from common.protocol.flower import opened
from common.protocol.messages import ADAPTER_STYPE, Reason

Kind = Literal["query", "train", "evaluate"]


@dataclass(frozen=True)
class Letter:
    """A message's content: plain values, and one buffer of factors where there are any."""

    values: Mapping[str, Any]
    blob: bytes = b""


def pack(letter: Letter) -> RecordDict:
    """The letter as Flower records; its buffer is one array of a type of our own, so that no pickle is involved."""
    content = RecordDict({"values": ConfigRecord(dict(letter.values))})
    if letter.blob:
        content["adapter"] = ArrayRecord({"adapter": Array("uint8", (len(letter.blob),), ADAPTER_STYPE, letter.blob)})
    return content


def unpack(message: Message) -> Letter | Reason:
    """The letter in a reply, or why it is none. An error's text is taken only if it is one of our words."""
    if message.has_error():
        reason = message.error.reason
        return reason if reason in get_args(Reason) else "failed"  # type: ignore[return-value]
    try:
        return Letter(*opened(message))
    except (KeyError, TypeError, AttributeError, ValueError):
        return "malformed"
