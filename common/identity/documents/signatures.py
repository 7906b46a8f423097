"""Signed updates, receipts and returns: Ed25519 over all of a statement, so that none is forged, moved or replayed.

The side that verifies fills in what it knows itself (run, round, parent and so on) and takes only counts and nonce from
the reply; a value that differs makes the signature wrong.
"""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.identity.documents.signed_json import from_hex, signed_bytes


@dataclass(frozen=True, kw_only=True)
class UpdateStatement:
    """A node's statement about its update; hashes and nonce are hexadecimal."""

    project: str
    run: str
    roster_version: int
    round: int
    attempt: int
    phase: int
    node: str
    parent_hash: str
    base_fingerprint: str
    configuration_hash: str
    counts: Mapping[str, int]
    blob_hash: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The server's statement about an accepted update: its weight in the sum, and the resulting adapter.

    Args:
        clip: factor that the server applied to the update; None in a receipt of version 1, which did not state it.
    """

    project: str
    run: str
    round: int
    node: str
    blob_hash: str
    weight: float
    adapter_hash: str
    clip: float | None = None


@dataclass(frozen=True, kw_only=True)
class Return:
    """The server's statement that a run went back to the end of a round, and to the adapter that it ended with."""

    project: str
    run: str
    round: int
    adapter_hash: str


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The server's statement that a run ended with this adapter, after its last round."""

    project: str
    run: str
    round: int
    adapter_hash: str


Statement = UpdateStatement | Receipt | Return | Ending


def sign(value: Statement, key: Ed25519PrivateKey) -> bytes:
    """Sign a statement; return the signature, 64 bytes."""
    return key.sign(_bytes(value))


def verify_signature(value: Statement, signature: bytes, public: Ed25519PublicKey) -> bool:
    """Return whether the holder of the key signed exactly this."""
    try:
        public.verify(signature, _bytes(value))
    except InvalidSignature:
        return False
    return True


_KINDS: Mapping[type, str] = {UpdateStatement: "update", Receipt: "receipt", Return: "return", Ending: "ending"}


def _bytes(value: Statement) -> bytes:
    body, version = asdict(value), 1
    if isinstance(value, Receipt):
        if value.clip is None:
            del body["clip"]
        else:
            version = 2
    return signed_bytes(_KINDS[type(value)], body, version)


_ROUND = {"run": "", "round": 0, "attempt": 1, "phase": 1, "parent": "", "base": ""}
"""Round values for the signature of a reply to no round: an announcement."""


def sign_reply(
    values: Mapping[str, Any], blob_hash: str, project: str, node: str, roster: int, key: Ed25519PrivateKey
) -> dict[str, Any]:
    """Return the values to add to a reply with these values and a blob of this SHA-256."""
    more = {"roster": roster, "nonce": secrets.token_hex(16)}
    signature = sign(_statement({**values, **more}, blob_hash, project, node), key)
    return {**more, "signature": signature.hex()}


def is_signed_reply(values: Mapping[str, Any], blob_hash: str, project: str, node: str, key: Ed25519PublicKey) -> bool:
    """Return whether this node of this project signed exactly this reply."""
    try:
        signature = from_hex(values["signature"])
        return verify_signature(_statement(values, blob_hash, project, node), signature, key)
    except (KeyError, TypeError, ValueError):
        return False


def _statement(values: Mapping[str, Any], blob_hash: str, project: str, node: str) -> UpdateStatement:
    round_values = {key: values.get(key, default) for key, default in _ROUND.items()}
    rest = {key: value for key, value in values.items() if key not in {*round_values, "roster", "nonce", "signature"}}
    return UpdateStatement(
        project=project,
        run=round_values["run"],
        roster_version=values["roster"],
        round=round_values["round"],
        attempt=round_values["attempt"],
        phase=round_values["phase"],
        node=node,
        parent_hash=round_values["parent"],
        base_fingerprint=round_values["base"],
        configuration_hash=round_values["run"],
        counts=rest,
        blob_hash=blob_hash,
        nonce=values["nonce"],
    )
