"""Private keys: P-384 for X.509 and TLS, Ed25519 for signatures; PKCS #8, encrypted if there is a passphrase.

The passphrase comes from the environment, not from a prompt: a server and a node start unattended, and the
commands do as they do.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from common.errors import IdentityError
from common.identity.keys import files

VARIABLE = "FEDLORA_PASSPHRASE"
"""The environment variable with the passphrase."""

TlsKey = ec.EllipticCurvePrivateKey
Key = TypeVar("Key", TlsKey, Ed25519PrivateKey)


def new_tls_key() -> TlsKey:
    """Make a new P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def new_signing_key() -> Ed25519PrivateKey:
    """Make a new Ed25519 key."""
    return Ed25519PrivateKey.generate()


def to_pem(key: TlsKey | Ed25519PrivateKey) -> bytes:
    """Return a key as PEM, encrypted if there is a passphrase."""
    passphrase = _passphrase()
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def to_plain_pem(key: TlsKey) -> bytes:
    """Return a key as unencrypted PEM for a TLS library; for memory only."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_tls_key(path: Path) -> TlsKey:
    """Read the P-384 key in a file.

    Raises:
        IdentityError: others may read the file, it contains no such key, or the passphrase is missing or wrong.
    """
    key = _read(path)
    if isinstance(key, TlsKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise IdentityError(f"{path} does not contain a P-384 key; restore the key that was made with its certificate")


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the Ed25519 key in a file.

    Raises:
        IdentityError: others may read the file, it contains no such key, or the passphrase is missing or wrong.
    """
    key = _read(path)
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise IdentityError(f"{path} does not contain an Ed25519 key; restore the key that was made with the others")


def load_or_make(path: Path, read: Callable[[Path], Key], make: Callable[[], Key]) -> Key:
    """Load the key in a file; make it if the file does not exist.

    Raises:
        IdentityError: it can be neither read nor made.
    """
    if os.path.lexists(path):
        return read(path)
    key = make()
    files.create_file(path, to_pem(key))
    return key


def _read(path: Path) -> object:
    data, passphrase = files.read_private(path), _passphrase()
    encrypted = b"BEGIN ENCRYPTED" in data
    if encrypted and not passphrase:
        raise IdentityError(f"{path} is encrypted; set {VARIABLE} to its passphrase")
    try:
        return load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        remedy = f"set {VARIABLE} to the passphrase it was made with" if encrypted else "put the key back"
        raise IdentityError(f"{path} cannot be read as a private key; {remedy}") from None


def _passphrase() -> bytes | None:
    return os.environ.get(VARIABLE, "").encode() or None
