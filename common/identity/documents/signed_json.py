"""Signed documents: one JSON form for the request, the roster and the invite, each in exactly one spelling."""

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError

from common.errors import IdentityError
from common.first_fault import first_fault
from common.identity.keys.files import LARGEST

STRICT = ConfigDict(extra="forbid", strict=True)


def from_hex(text: str) -> bytes:
    """Return the bytes that `text` spells, only as `bytes.hex` does: no spaces, no capitals.

    Raises:
        TypeError, ValueError: it is not in this spelling.
    """
    data = bytes.fromhex(text)
    if data.hex() != text:
        raise ValueError("hexadecimal digits in another spelling")
    return data


def _from_hex(value: Any) -> Any:
    return from_hex(value) if isinstance(value, str) else value


def _to_hex(value: bytes) -> str:
    return value.hex()


HexBytes = Annotated[bytes, BeforeValidator(_from_hex), PlainSerializer(_to_hex, when_used="json")]
SigningKey = Annotated[HexBytes, Field(min_length=32, max_length=32)]
"""A raw Ed25519 public key."""

Document = TypeVar("Document")


def signed_bytes(kind: str, body: Any, version: int = 1) -> bytes:
    """Return the bytes to sign: the body, its kind and version; keys are sorted, so that equal bodies are equal bytes.

    The loss of an update may be NaN: it is signed too, so that the server can reject it with the right reason.
    """
    return f"fedlora {kind} {version}\n".encode() + _json(body, allow_nan=True)


def sign_document(kind: str, document: object, key: Ed25519PrivateKey) -> bytes:
    """Sign a document, a dataclass of this package, as JSON."""
    body = TypeAdapter(type(document)).dump_python(document, mode="json")
    return _spell(kind, body, key.sign(signed_bytes(kind, body)).hex())


def open_document(
    kind: str, shape: type[Document], data: bytes, key_of: Callable[[Document], Ed25519PublicKey]
) -> Document:
    """Open the document in these bytes, signed by the key that `key_of` finds for it.

    Raises:
        IdentityError: it is of another kind or form, or its signature is wrong.
    """
    body, signature = _parts(kind, data)
    document = _shaped(kind, shape, body)
    _verify(kind, body, signature, key_of(document))
    return document


def open_signed_by(kind: str, shape: type[Document], data: bytes, key: Ed25519PublicKey) -> Document:
    """Open the document in these bytes; of what this key has not signed, no more is read than that.

    Raises:
        IdentityError: it is of another kind or form, or its signature is wrong.
    """
    body, signature = _parts(kind, data)
    _verify(kind, body, signature, key)
    return _shaped(kind, shape, body)


def _shaped(kind: str, shape: type[Document], body: Any) -> Document:
    try:
        return TypeAdapter(shape).validate_json(_json(body))
    except ValidationError as error:
        where, what = first_fault(error)
        raise IdentityError(
            f"is not a valid {kind} of this version of fedlora ({where or 'body'}: {what}); ask for a new one"
        ) from None


def _verify(kind: str, body: Any, signature: bytes, key: Ed25519PublicKey) -> None:
    try:
        key.verify(signature, signed_bytes(kind, body))
    except InvalidSignature:
        raise IdentityError(
            f"the signature of this {kind} is wrong: it was changed, or another key made it; ask its maker for it again"
        ) from None


def _parts(kind: str, data: bytes) -> tuple[Any, bytes]:
    if len(data) > LARGEST:
        raise IdentityError(f"is larger than {LARGEST} bytes, so it is no {kind} of fedlora; ask for the right one")
    try:
        document = json.loads(data.decode())
        body, signature = document["body"], from_hex(document["signature"])
        if data == _spell(kind, body, signature.hex()):
            return body, signature
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise IdentityError(f"is not a complete {kind} of fedlora; copy it again")


def _spell(kind: str, body: Any, signature: str) -> bytes:
    return _json({"body": body, "kind": kind, "signature": signature}) + b"\n"


def _json(value: Any, allow_nan: bool = False) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan).encode()
