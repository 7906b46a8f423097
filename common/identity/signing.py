"""What a node adds to each reply so that the server knows who sent exactly this, and how it is checked.

Added are `roster` (the version that the node goes by), `nonce` and `signature`; all other values are signed with the
blob's hash.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.identity import envelope
from common.identity.documents import from_hex
from common.identity.envelope import Statement

_ORDER = {"run": "", "round": 0, "attempt": 1, "parent": "", "base": ""}
"""What a reply that answers no order, an announcement, is signed with."""


def added(
    values: Mapping[str, Any], blob_hash: str, project: str, node: str, roster: int, key: Ed25519PrivateKey
) -> dict[str, Any]:
    """The values to add to a reply with these values and a blob of this SHA-256."""
    more = {"roster": roster, "nonce": secrets.token_hex(16)}
    signature = envelope.sign(_statement({**values, **more}, blob_hash, project, node), key)
    return {**more, "signature": signature.hex()}


def signed(values: Mapping[str, Any], blob_hash: str, project: str, node: str, key: Ed25519PublicKey) -> bool:
    """Whether this node of this project signed exactly this reply."""
    try:
        signature = from_hex(values["signature"])
        return envelope.verify(_statement(values, blob_hash, project, node), signature, key)
    except (KeyError, TypeError, ValueError):
        return False


def _statement(values: Mapping[str, Any], blob_hash: str, project: str, node: str) -> Statement:
    order = {key: values.get(key, default) for key, default in _ORDER.items()}
    rest = {key: value for key, value in values.items() if key not in {*order, "roster", "nonce", "signature"}}
    return Statement(
        project=project,
        run=order["run"],
        roster_version=values["roster"],
        round=order["round"],
        attempt=order["attempt"],
        node=node,
        parent_hash=order["parent"],
        base_fingerprint=order["base"],
        configuration_hash=order["run"],
        counts=rest,
        blob_hash=blob_hash,
        nonce=values["nonce"],
    )
