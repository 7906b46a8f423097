"""The connection between a node and the server: names and options that both ends share."""

from typing import Protocol

INBOX = "Inbox"
"""Method by which a node opens its stream of messages; it sends its rank as JSON and gets frames."""
REPLY = "Reply"
"""Method by which a node sends the frames of one reply."""
NOTICE = "query.notice"
"""Type of a message that a node reads and does not answer (`common.protocol.round_notice`)."""
SERVICE = "fedlora.v1"
FRAME = 2**20
"""Largest size of a frame in bytes."""
CHANNEL = (
    ("grpc.max_receive_message_length", FRAME),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # the only ping timeout that gRPC applies: github.com/grpc/grpc/pull/39239
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""Settings of gRPC for both ends: a peer whose network went silent is detected after 20 + 10 s."""


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
