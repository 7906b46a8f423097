"""The connection between a node and the server: names, options and the first message, which both ends share."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from common.adapters.link_codecs import CODECS, PLAIN, SHARES_A
from common.adapters.rounding import WIRES

INBOX = "Inbox"
"""Method by which a node opens its stream of messages; it sends a `NodeHello` and gets frames."""
REPLY = "Reply"
"""Method by which a node sends the frames of one reply."""
PROGRESS = "Progress"
"""Method by which a node that works on a message sends a `StepReport`."""
NOTICE = "query.notice"
"""Type of a message that a node reads and does not answer (`common.protocol.round_notice`)."""
REPLY_BYTES = "reply_bytes"
"""Name of the value with which a request states the bytes of arrays that its reply may have; without it, none."""
SERVICE = "fedlora.v1"
FRAME = 2**20
"""Largest size of a frame in bytes."""
MAX_HELLO = 2**12
"""Largest size of a `NodeHello` or a `StepReport` in bytes."""
CHANNEL = (
    ("grpc.max_receive_message_length", FRAME),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # identity alone: a frame of 1 MiB may be 1 kB of gzip
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # the only ping timeout that gRPC applies: github.com/grpc/grpc/pull/39239
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Settings of gRPC for both ends: a peer whose network went silent is detected after 20 + 10 s."""


@dataclass(frozen=True)
class NodeHello:
    """A node's first message: the rank that it trains, and the link codecs and wires that it knows."""

    rank: int
    codecs: tuple[str, ...] = (*CODECS, *WIRES, SHARES_A)

    def to_json(self) -> bytes:
        """Return the message's bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, request: bytes) -> Self | None:
        """Undo `to_json`; None for anything else. A node that names no codecs knows only the plain one."""
        plain = _read_object(request)
        rank, codecs = plain.get("rank"), plain.get("codecs", [PLAIN])
        listed = isinstance(codecs, list) and all(isinstance(name, str) for name in codecs)
        return cls(rank, tuple(codecs)) if type(rank) is int and rank > 0 and listed else None


@dataclass(frozen=True)
class StepReport:
    """A node's word that it works on a message.

    Args:
        message: id of the message.
        step: steps done.
    """

    message: str
    step: int

    def to_json(self) -> bytes:
        """Return the report's bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, request: bytes) -> Self | None:
        """Undo `to_json`; None for anything else."""
        plain = _read_object(request)
        message, step = plain.get("message"), plain.get("step")
        return cls(message, step) if isinstance(message, str) and type(step) is int and step >= 0 else None


def _read_object(request: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a small request; an empty one for anything else."""
    try:
        plain = json.loads(request) if len(request) <= MAX_HELLO else None
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}


class TlsMaterial(Protocol):
    """One end's certificate and key, and the authority it trusts, each as PEM."""

    @property
    def ca_pem(self) -> bytes:
        """The project's certificate authority; no other is trusted."""
        ...

    @property
    def certificate_pem(self) -> bytes:
        """This end's certificate."""
        ...

    @property
    def key_pem(self) -> bytes:
        """Its private key, not encrypted."""
        ...
