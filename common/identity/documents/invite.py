"""Invites: what a project sends to an admitted node; public, and signed with the roster's key, which the node pins."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic.dataclasses import dataclass

from common.errors import IdentityError
from common.identity.documents import fingerprints, roster, signed_json
from common.identity.documents.names import HostNames, NodeName, ProjectName
from common.identity.documents.signed_json import STRICT, SigningKey
from common.identity.keys.certificates import from_pem, is_issued_by, key_hash, public_key, subject_names
from common.identity.keys.private_keys import TlsKey


@dataclass(frozen=True, config=STRICT)
class Invite:
    """An invite; certificates are PEM, and the server signs its receipts with `receipt_key`."""

    project: ProjectName
    name: NodeName
    servers: HostNames
    authority: str
    certificate: str
    roster_key: SigningKey
    receipt_key: SigningKey
    signed_roster: str

    @property
    def roster_public_key(self) -> Ed25519PublicKey:
        """The key that signs every roster of the project."""
        return Ed25519PublicKey.from_public_bytes(self.roster_key)

    @property
    def project_fingerprint(self) -> str:
        """The fingerprint of the project that invites.

        Raises:
            IdentityError: the authority is not a certificate.
        """
        authority = from_pem(self.authority.encode())
        return fingerprints.project_fingerprint(self.project, authority, self.roster_public_key)


def sign_invite(invite: Invite, key: Ed25519PrivateKey) -> bytes:
    """Sign an invite; return the content of its file."""
    return signed_json.sign_document("invite", invite, key)


def read_invite(data: bytes) -> tuple[Invite, roster.Roster]:
    """Read the invite in these bytes, and the roster in it.

    Raises:
        IdentityError: the form or a signature is wrong, or its node is not in its roster.
    """
    invite = signed_json.open_document("invite", Invite, data, lambda it: it.roster_public_key)
    members = roster.read_roster(invite.signed_roster.encode(), invite.roster_public_key)
    if members.project != invite.project:
        raise IdentityError(
            f"project {invite.project} comes with the roster of {members.project}; ask for a new invite"
        )
    members.member(invite.name)
    return invite, members


def check_holder(
    invite: Invite, members: roster.Roster, name: str, tls_key: TlsKey, signing_key: Ed25519PrivateKey
) -> None:
    """Check that an invite is for the node of this name and keys.

    Raises:
        IdentityError: it is not, or its certificate does not belong to its authority and roster.
    """
    authority, certificate = (from_pem(pem.encode()) for pem in (invite.authority, invite.certificate))
    member = members.member(invite.name)
    own = (key_hash(tls_key.public_key()), signing_key.public_key().public_bytes_raw())
    for right, fault in (
        (invite.name == name, f"is for node {invite.name}, not for {name}"),
        (is_issued_by(certificate, authority), "contains a certificate of another authority than its own"),
        (subject_names(certificate) == (name,), f"contains no certificate for {name}"),
        (
            key_hash(public_key(certificate)) == member.certificate,
            "contains a certificate unknown to its roster",
        ),
        ((member.certificate, member.signing_key) == own, f"is for other keys than {name}.key and {name}.sign.key"),
    ):
        if not right:
            raise IdentityError(f"{fault}; ask the project's operator for the invite of this node")
