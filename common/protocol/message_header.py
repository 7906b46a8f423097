"""Flower message <-> one JSON header: metadata, plain values, and a description of each array; no pickle.

The bytes of the arrays follow the header (`common.protocol.frames`).
"""

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict

from common.errors import TransportError

_METADATA: dict[str, type] = {
    "run_id": int,
    "message_id": str,
    "src_node_id": int,
    "dst_node_id": int,
    "reply_to_message_id": str,
    "group_id": str,
    "created_at": float,
    "ttl": float,
    "message_type": str,
}
MAX_ENTRIES = 256
"""Largest number of records, values and arrays of a message, all together."""
_PLAIN = {"metrics": MetricRecord, "config": ConfigRecord}


@dataclass(frozen=True)
class MessageHeader:
    """A message whose arrays are still empty.

    Args:
        message: everything but the arrays' bytes.
        arrays: each array with the number of bytes to come, in order.
    """

    message: Message
    arrays: tuple[tuple[Array, int], ...]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(size for _, size in self.arrays)


def write_header(message: Message) -> bytes:
    """Write the header as JSON, its arrays in the order of `message_arrays`."""
    plain: dict[str, Any] = {
        "metadata": {name: kind(getattr(message.metadata, name)) for name, kind in _METADATA.items()}
    }
    if message.has_error():
        plain["error"] = [message.error.code, message.error.reason]
    else:
        plain["records"] = [[name, *_describe(record)] for name, record in message.content.items()]
    return json.dumps(plain, default=_tag, separators=(",", ":")).encode()


def message_arrays(message: Message) -> list[bytes]:
    """Return the bytes of each array."""
    records = message.content.values() if message.has_content() else ()
    return [array.data for record in records if isinstance(record, ArrayRecord) for array in record.values()]


def _describe(record: object) -> tuple[str, list[Any]]:
    if isinstance(record, ArrayRecord):
        return "arrays", [[key, a.dtype, a.shape, a.stype, len(a.data)] for key, a in record.items()]
    assert isinstance(record, MetricRecord | ConfigRecord)
    return "metrics" if isinstance(record, MetricRecord) else "config", list(record.items())


def _tag(value: object) -> dict[str, str]:
    """Encode bytes, which JSON lacks, as an object; values contain no other object."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    raise TypeError(f"{type(value).__name__} is not a value of a message")


def _untag(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["bytes"]) if value.keys() == {"bytes"} else value


def read_header(text: bytes, limit: int | None) -> MessageHeader:
    """Read a message's header.

    Args:
        text: the header as JSON.
        limit: largest size of all arrays in bytes; None accepts any.

    Raises:
        TransportError: it is malformed, or announces more than the limit.
    """
    try:
        plain = json.loads(str(text, "utf-8"), object_hook=_untag)
        head = _header(_metadata(plain["metadata"]), plain)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TransportError(f"the header of a message is malformed: {type(error).__name__}") from error
    if limit is not None and head.size > limit:
        raise TransportError(f"a message of {head.size} bytes is larger than the limit of {limit}")
    return head


def _metadata(plain: dict[str, Any]) -> Metadata:
    values = {name: plain[name] for name in _METADATA}
    if not all(type(values[name]) is kind for name, kind in _METADATA.items()):
        raise TypeError("a value of another type")
    if not (isfinite(values["created_at"]) and isfinite(values["ttl"])):
        raise ValueError("a time that is not finite")
    return Metadata(**values)


def _header(metadata: Metadata, plain: dict[str, Any]) -> MessageHeader:
    """Make the header; check the number of entries first, because each costs far more memory than its bytes."""
    if "error" in plain:
        return MessageHeader(_message(metadata, error=_error(*plain["error"])), ())
    if sum(1 + len(body) for _, _, body in plain["records"]) > MAX_ENTRIES:
        raise ValueError("more records, values and arrays than a message may have")
    arrays: list[tuple[Array, int]] = []
    records = [(name, _record(kind, body, arrays)) for name, kind, body in plain["records"]]
    return MessageHeader(_message(metadata, content=RecordDict(_unique(records))), tuple(arrays))


def _message(metadata: Metadata, **body: Any) -> Message:
    return Message(metadata=metadata, **body)  # type: ignore[call-overload,no-any-return]


def _error(code: Any, reason: Any) -> Error:
    if type(code) is not int or not isinstance(reason, str | None):
        raise TypeError("not an error of Flower")
    return Error(code, reason)


def _record(kind: str, body: list[Any], arrays: list[tuple[Array, int]]) -> Any:
    if kind != "arrays":
        return _PLAIN[kind](_unique(body))
    found = [(key, *_array(*rest)) for key, *rest in body]
    record = ArrayRecord(_unique([(key, array) for key, array, _ in found]))
    arrays += [(record[key], size) for key, _, size in found]  # The record's own arrays: it copies those that it gets.
    return record


def _array(dtype: Any, shape: Any, stype: Any, size: Any) -> tuple[Array, int]:
    if not all(type(number) is int and number >= 0 for number in (*shape, size)):
        raise ValueError("a size that is not a natural number")
    return Array(dtype, tuple(shape), stype, b""), size


def _unique(items: list[Any]) -> dict[str, Any]:
    named = dict(items)
    if len(named) != len(items):
        raise ValueError("a name occurs twice")
    return named
