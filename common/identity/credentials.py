"""Credentials of a server and of a node, read from their folders of keys and checked once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.errors import IdentityError
from common.identity import pins
from common.identity.documents import invite, names, roster
from common.identity.documents.invite import Invite
from common.identity.documents.roster import Roster
from common.identity.keys import certificates, expiry, files, folders, private_keys
from common.identity.keys.private_keys import TlsKey
from common.identity.project_files import read_project_files


@dataclass(frozen=True)
class ServerCredentials:
    """The server's half of mutual TLS, the roster, and the key that signs receipts; `warnings` are for its operator."""

    project: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    roster: Roster
    roster_bytes: bytes
    roster_key: Ed25519PublicKey
    receipt_key: Ed25519PrivateKey
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class NodeCredentials:
    """A node's half of mutual TLS, its signing key, its pinned keys and roster; `warnings` are for its owner."""

    project: str
    name: str
    servers: tuple[str, ...]
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    signing_key: Ed25519PrivateKey
    roster: Roster
    roster_key: Ed25519PublicKey
    project_fingerprint: str
    receipt_public_key: Ed25519PublicKey
    warnings: tuple[str, ...]


def load_server_credentials(folder: Path) -> ServerCredentials:
    """Load the credentials of the server of the project in this folder; `ca.key` and `roster.key` may be elsewhere.

    Raises:
        IdentityError: a file is missing, damaged, expired or open to others, or does not belong to the rest.
    """
    now = datetime.now(UTC)
    public = read_project_files(folder)
    public.check_authority(now)
    public.check_server(now)
    key = private_keys.read_tls_key(folder / "server.key")
    certificates.check_key(public.server, key, folder / "server.key")
    return ServerCredentials(
        project=public.roster.project,
        ca_pem=certificates.to_pem(public.authority),
        certificate_pem=certificates.to_pem(public.server),
        key_pem=private_keys.to_plain_pem(key),
        roster=public.roster,
        roster_bytes=public.signed_roster,
        roster_key=public.roster_key,
        receipt_key=private_keys.read_signing_key(folder / "receipt.key"),
        warnings=public.warnings(now),
    )


def load_node_credentials(folder: Path, name: str) -> NodeCredentials:
    """Load the credentials of this node, with the newest roster it has seen.

    Raises:
        IdentityError: a file is missing, damaged, expired or open to others, or does not belong to the rest; or the
            roster bars the node, or the node's owner has not confirmed the project.
    """
    names.node_name(name)
    folders.check_closed(folder)
    tls_key, signing_key = own_keys(folder, name)
    with _read_from(folder, name) as data:
        document, invited = invite.read_invite(data)
        invite.check_holder(document, invited, name, tls_key, signing_key)
    pins.check_confirmed(folder, document)
    members = pins.newest_roster(folder, document, invited)
    check_not_revoked(name, members)
    return NodeCredentials(
        project=document.project,
        name=name,
        servers=document.servers,
        ca_pem=document.authority.encode(),
        certificate_pem=document.certificate.encode(),
        key_pem=private_keys.to_plain_pem(tls_key),
        signing_key=signing_key,
        roster=members,
        roster_key=document.roster_public_key,
        project_fingerprint=document.project_fingerprint,
        receipt_public_key=Ed25519PublicKey.from_public_bytes(document.receipt_key),
        warnings=_timely(folder, document),
    )


def pin_newer_roster(folder: Path, credentials: NodeCredentials, signed_roster: bytes) -> NodeCredentials:
    """Return the credentials with a newer roster, which is saved so that no older one is accepted again.

    Raises:
        IdentityError: its form, signature or project is wrong, it is older than the last, or contradicts it; or it
            bars the node.
    """
    known, name = credentials.roster, credentials.name
    newer = roster.check_successor(known, roster.read_roster(signed_roster, credentials.roster_key, known.version))
    with folders.lock(folder):
        pins.pin_project(folder, name, credentials.project_fingerprint)
        pins.pin_roster(folder, name, signed_roster)
    check_not_revoked(name, newer)
    return replace(credentials, roster=newer)


def check_not_revoked(name: str, members: Roster) -> None:
    """Check that a roster does not bar a node.

    Raises:
        IdentityError: it does, or has no such node.
    """
    if members.member(name).revoked:
        raise IdentityError(
            f"{name} has been revoked since roster version {members.version}; ask the project's operator"
        )


def own_keys(folder: Path, name: str) -> tuple[TlsKey, Ed25519PrivateKey]:
    """Read a node's keys, for TLS and for signatures.

    Raises:
        IdentityError: one is missing, damaged or open to others.
    """
    path = folder / f"{name}.key"
    _require(path, f"run: fedlora keys join --name {name} --dir {folder}")
    return private_keys.read_tls_key(path), private_keys.read_signing_key(folder / f"{name}.sign.key")


@contextmanager
def _read_from(folder: Path, name: str) -> Iterator[bytes]:
    path = folder / f"{name}.invite"
    _require(
        path, f"send {name}.request to the project's operator; for the invite that comes back: fedlora keys accept"
    )
    data = files.read_public(path)
    with files.prefix_errors(path):
        yield data


def _require(path: Path, remedy: str) -> None:
    if not path.exists():
        raise IdentityError(f"{path} does not exist; {remedy}")


def _timely(folder: Path, document: Invite) -> tuple[str, ...]:
    """Return warnings for the node's owner about the time left; raise if the certificate has expired."""
    certificate, now = certificates.from_pem(document.certificate.encode()), datetime.now(UTC)
    name = document.name
    what = f"the certificate of {name}"
    remedy = f"ask the operator for: fedlora keys renew {name}, and put the new {name}.invite in {folder}"
    expiry.check_validity(what, certificate, remedy, now)
    return expiry.warnings(what, certificate.not_valid_after_utc, remedy, now)
