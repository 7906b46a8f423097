"""Signed updates and receipts: Ed25519 over what a reply belongs to, so that none can be forged, moved or replayed.

The side that verifies fills in what it knows itself (run, round, parent and so on) and takes only counts and nonce from
the reply; a value that differs makes the signature wrong.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.identity.documents import message


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a node says of its update; hashes and nonce are hexadecimal."""

    project: str
    run: str
    roster_version: int
    round: int
    attempt: int
    node: str
    parent_hash: str
    base_fingerprint: str
    configuration_hash: str
    counts: Mapping[str, int]
    blob_hash: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the server says of an accepted update: its weight in the sum, and the adapter that came of it."""

    project: str
    run: str
    round: int
    node: str
    blob_hash: str
    weight: float
    adapter_hash: str


def sign(value: Statement | Receipt, key: Ed25519PrivateKey) -> bytes:
    """The signature, 64 bytes."""
    return key.sign(_bytes(value))


def verify(value: Statement | Receipt, signature: bytes, public: Ed25519PublicKey) -> bool:
    """Whether the holder of the key signed exactly this."""
    try:
        public.verify(signature, _bytes(value))
    except InvalidSignature:
        return False
    return True


def _bytes(value: Statement | Receipt) -> bytes:
    kind = "update" if isinstance(value, Statement) else "receipt"
    return message(kind, asdict(value))
