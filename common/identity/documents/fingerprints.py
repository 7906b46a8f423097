"""Fingerprints, which two people compare: half a SHA-256, enough against a forged document, in groups to read aloud."""

import re
from collections.abc import Mapping
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from common.errors import IdentityError
from common.identity.documents import signed_json

_DIGITS = 32
_SEPARATORS = re.compile(r"[\s:\-\u2010-\u2015\u2212]+")
"""Spaces, colons and dashes, also those that a text editor makes of a hyphen."""


def fingerprint(kind: str, body: Mapping[str, str]) -> str:
    """Return the fingerprint of these facts, which are of one kind."""
    digits = sha256(signed_json.signed_bytes(kind, dict(body))).hexdigest()[:_DIGITS]
    return " ".join(digits[start : start + 4] for start in range(0, _DIGITS, 4))


def project_fingerprint(project: str, authority: x509.Certificate, roster_key: Ed25519PublicKey) -> str:
    """Return the fingerprint of a project: its name, its authority's certificate, and the key that signs its roster."""
    certificate, key = authority.public_bytes(Encoding.DER), roster_key.public_bytes_raw()
    return fingerprint("project", {"project": project, "authority": certificate.hex(), "roster_key": key.hex()})


def is_typed(typed: str, right: str) -> bool:
    """Return whether a person has typed this fingerprint; spaces, dashes, colons and capitals do not count.

    Raises:
        IdentityError: it is not a whole fingerprint.
    """
    digits = _SEPARATORS.sub("", typed).lower()
    if not re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", digits):
        raise IdentityError(f"fingerprint {typed!r}: give all {_DIGITS} hexadecimal digits that the operator reads out")
    return digits == right.replace(" ", "")


def as_word(text: str) -> str:
    """Return a fingerprint in a spelling that needs no quotes in a command."""
    return text.replace(" ", "-")
