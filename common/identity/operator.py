"""The operator's side: make a project, admit and revoke nodes, renew certificates."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import IdentityError
from common.identity.documents import invite, names, roster
from common.identity.documents.invite import Invite
from common.identity.documents.request import JoinRequest
from common.identity.documents.roster import Member, Roster
from common.identity.keys import certificates, files, folders, private_keys
from common.identity.keys.certificates import Authority, key_hash
from common.identity.project_files import ProjectFiles, read_project_files


@dataclass(frozen=True)
class _Project:
    """A project with the private keys that sign for it."""

    public: ProjectFiles
    authority: Authority
    roster_key: Ed25519PrivateKey


def init(folder: Path, project: str, hosts: Iterable[str], now: datetime) -> None:
    """Make a project in a new folder: its authority, the server's keys and certificate, and an empty roster.

    Raises:
        IdentityError: a name cannot be used, or the folder contains files.
    """
    project, hosts = names.project_name(project), names.host_names(hosts)
    ca_key, server_key = private_keys.new_tls_key(), private_keys.new_tls_key()
    roster_key, receipt_key = private_keys.new_signing_key(), private_keys.new_signing_key()
    authority = certificates.new_authority(project, ca_key, now)
    contents = {
        "ca.key": private_keys.to_pem(ca_key),
        "ca.pem": certificates.to_pem(authority.certificate),
        "server.key": private_keys.to_pem(server_key),
        "server.pem": certificates.to_pem(
            certificates.make_server_certificate(hosts, server_key.public_key(), authority, now)
        ),
        "roster.key": private_keys.to_pem(roster_key),
        "roster.pub": _public_pem(roster_key),
        "receipt.key": private_keys.to_pem(receipt_key),
        "receipt.pub": _public_pem(receipt_key),
        "roster.json": roster.sign_roster(Roster(project, 1, {}), roster_key),
    }
    folders.make(folder, contents)


def admit(folder: Path, request: JoinRequest, max_rank: int, max_weight: int, now: datetime) -> Path:
    """Add a node to the roster; return its invite, NAME.invite in the folder.

    Raises:
        IdentityError: the name is already in the roster, or the project cannot be used.
    """
    with _open_project(folder, now) as project:
        if request.name in project.public.roster.members:
            raise IdentityError(
                f"{request.name!r} is already in the roster; if its invite is lost, run: fedlora keys renew "
                f"{request.name}; another node joins under another name"
            )
        certificate = certificates.make_node_certificate(request.name, request.public_key, project.authority, now)
        member = Member(
            name=request.name,
            signing_key=request.signing_key,
            certificate=key_hash(request.public_key),
            max_rank=max_rank,
            max_weight=max_weight,
            expires=certificate.not_valid_after_utc,
        )
        return _publish(project, member, certificate)


def renew_node(folder: Path, name: str, now: datetime) -> Path:
    """Give a member a certificate that begins now, for the same key; return its new invite.

    Raises:
        IdentityError: it is not a member or is revoked, or the project cannot be used.
    """
    with _open_project(folder, now) as project:
        member = _require_member(project.public.roster, name)
        path = _invite_path(folder, name)
        with files.prefix_errors(path):
            # The roster has only the hash of the node's key; the key itself is in the last invite.
            document, _ = invite.read_invite(files.read_public(path))
            key = certificates.public_key(certificates.from_pem(document.certificate.encode()))
            if key_hash(key) != member.certificate:
                raise IdentityError("has another key than the roster; put back the newest invite of this node")
        certificate = certificates.make_node_certificate(name, key, project.authority, now)
        return _publish(project, replace(member, expires=certificate.not_valid_after_utc), certificate)


def renew_server(folder: Path, now: datetime) -> x509.Certificate:
    """Give the server a certificate that begins now, for the same key and names; nodes change nothing.

    Raises:
        IdentityError: the project cannot be used.
    """
    with _open_project(folder, now) as project:
        key = certificates.public_key(project.public.server)
        hosts = names.host_names(project.public.hosts)
        certificate = certificates.make_server_certificate(hosts, key, project.authority, now)
        files.replace_file(folder / "server.pem", certificates.to_pem(certificate))
    return certificate


def revoke(folder: Path, name: str, now: datetime) -> Roster:
    """Bar a member for good, by the roster's next version, which is returned.

    Raises:
        IdentityError: it is not a member or is already revoked, or the project cannot be used.
    """
    with _open_project(folder, now) as project:
        following = project.public.roster.successor(replace(_require_member(project.public.roster, name), revoked=True))
        files.replace_file(folder / "roster.json", roster.sign_roster(following, project.roster_key))
    return following


@contextmanager
def _open_project(folder: Path, now: datetime) -> Iterator[_Project]:
    with folders.lock(folder):
        public = read_project_files(folder)
        public.check_authority(now)
        key = private_keys.read_tls_key(folder / "ca.key")
        certificates.check_key(public.authority, key, folder / "ca.key")
        roster_key = private_keys.read_signing_key(folder / "roster.key")
        if roster_key.public_key() != public.roster_key:
            raise IdentityError(f"{folder / 'roster.key'} does not belong to roster.pub; restore both of one project")
        yield _Project(public, Authority(public.authority, key), roster_key)


def _publish(project: _Project, member: Member, certificate: x509.Certificate) -> Path:
    """Write the invite, then the roster, which alone decides: a crash between them admits nobody."""
    public = project.public
    signed = roster.sign_roster(public.roster.successor(member), project.roster_key)
    document = Invite(
        project=public.roster.project,
        name=member.name,
        servers=public.hosts,
        authority=certificates.to_pem(public.authority).decode(),
        certificate=certificates.to_pem(certificate).decode(),
        roster_key=public.roster_key.public_bytes_raw(),
        receipt_key=public.receipt_key.public_bytes_raw(),
        signed_roster=signed.decode(),
    )
    path = _invite_path(public.folder, member.name)
    files.replace_file(path, invite.sign_invite(document, project.roster_key))
    files.replace_file(public.folder / "roster.json", signed)
    return path


def _require_member(members: Roster, name: str) -> Member:
    member = members.member(name)
    if member.revoked:
        raise IdentityError(f"{name!r} was revoked for good; let it join under another name")
    return member


def _invite_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.invite"


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
