"""The public half of a project's folder: certificates, roster, and warnings before they expire."""

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.errors import IdentityError
from common.identity.documents import roster
from common.identity.documents.fingerprints import project_fingerprint
from common.identity.documents.roster import Member, Roster
from common.identity.keys import certificates, expiry, files, folders
from common.identity.keys.certificates import subject_names
from common.identity.keys.server_certificates import common_names, server_fault


@dataclass(frozen=True)
class ProjectFiles:
    """The public half of a project."""

    folder: Path
    authority: x509.Certificate
    server: x509.Certificate
    roster_key: Ed25519PublicKey
    receipt_key: Ed25519PublicKey
    signed_roster: bytes
    roster: Roster

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names and IP addresses of the server; a certificate without any is renewed for its common name."""
        return subject_names(self.server) or common_names(self.server)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the project, which a node's owner confirms."""
        return project_fingerprint(self.roster.project, self.authority, self.roster_key)

    def check_authority(self, now: datetime) -> None:
        """Check that the authority can sign now.

        Raises:
            IdentityError: it has expired, or has not begun.
        """
        expiry.check_validity("the project's authority", self.authority, _NEW_PROJECT, now)

    def check_server(self, now: datetime) -> None:
        """Check that nodes accept the server's certificate now.

        Raises:
            IdentityError: it has expired, or has not begun; or it is not a server's.
        """
        if fault := server_fault(self.server):
            raise IdentityError(f"{self.folder / 'server.pem'} {fault}; {self._renew()}")
        expiry.check_validity("the server's certificate", self.server, self._renew(), now)

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Return a warning for each part that has expired or soon will, with the command that fixes it."""
        return (
            *expiry.warnings("the project's authority", self.authority.not_valid_after_utc, _NEW_PROJECT, now),
            *expiry.warnings("the server's certificate", self.server.not_valid_after_utc, self._renew(), now),
            *(line for member in self.roster.members.values() for line in self._member_warnings(member, now)),
        )

    def _member_warnings(self, member: Member, now: datetime) -> tuple[str, ...]:
        if member.revoked:
            return ()
        remedy = f"{self._renew(member.name)}, and send it the new invite"
        return expiry.warnings(f"the certificate of {member.name}", member.expires, remedy, now)

    def _renew(self, *name: str) -> str:
        return f"run: {shlex.join(['fedlora', 'keys', 'renew', *name, '--dir', str(self.folder)])}"


_NEW_PROJECT = "make a new project with fedlora keys init, and admit every node to it"


def read_project_files(folder: Path) -> ProjectFiles:
    """Read the public files of the project in this folder.

    Raises:
        IdentityError: others may enter the folder, or a file of it is missing, damaged or of another project.
    """
    folders.check_closed(folder)
    authority, server = (_certificate(folder / name) for name in ("ca.pem", "server.pem"))
    if not certificates.is_issued_by(server, authority):
        raise IdentityError(
            f"{folder / 'server.pem'} was not issued by {folder / 'ca.pem'}; restore both of one project"
        )
    roster_key, receipt_key = (_public_key(folder / name) for name in ("roster.pub", "receipt.pub"))
    signed = files.read_public(folder / "roster.json")
    with files.prefix_errors(folder / "roster.json"):
        members = roster.read_roster(signed, roster_key)
    return ProjectFiles(folder, authority, server, roster_key, receipt_key, signed, members)


def _certificate(path: Path) -> x509.Certificate:
    data = files.read_public(path)
    with files.prefix_errors(path):
        return certificates.from_pem(data)


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(files.read_public(path))
    except (ValueError, UnsupportedAlgorithm, InternalError):
        key = None
    if isinstance(key, Ed25519PublicKey):
        return key
    raise IdentityError(f"{path} is not an Ed25519 public key; restore the file that was made with the others")
