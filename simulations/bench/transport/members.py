"""Admission of many members at once: `fedlora keys admit` signs the whole roster for each, which would take minutes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.identity.documents import roster
from common.identity.documents.roster import Member, Roster
from common.identity.keys import certificates, files, private_keys
from common.identity.keys.certificates import Authority
from simulations.bench.transport.deployment import MAX_RANK, MAX_WEIGHT


@dataclass(frozen=True)
class Pem:
    """A node's authority, certificate and private key, each as PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


def admit_all(folder: Path, names: Iterable[str]) -> dict[str, Pem]:
    """Replace all members on the roster in this folder of keys; return the new ones' credentials by name."""
    public = certificates.from_pem(files.read_public(folder / "ca.pem"))
    authority = Authority(public, private_keys.read_tls_key(folder / "ca.key"))
    roster_key = private_keys.read_signing_key(folder / "roster.key")
    before = roster.read_roster(files.read_public(folder / "roster.json"), roster_key.public_key())
    made = [_member(name, authority) for name in names]
    after = Roster(before.project, before.version + 1, {member.name: member for member, _ in made})
    files.replace_file(folder / "roster.json", roster.sign_roster(after, roster_key))
    return {member.name: pem for member, pem in made}


def _member(name: str, authority: Authority) -> tuple[Member, Pem]:
    key, signing_key = private_keys.new_tls_key(), private_keys.new_signing_key()
    certificate = certificates.make_node_certificate(name, key.public_key(), authority, datetime.now(UTC))
    member = Member(
        name=name,
        signing_key=signing_key.public_key().public_bytes_raw(),
        certificate=certificates.key_hash(key.public_key()),
        max_rank=MAX_RANK,
        max_weight=MAX_WEIGHT,
        expires=certificate.not_valid_after_utc,
    )
    tls = (
        certificates.to_pem(authority.certificate),
        certificates.to_pem(certificate),
        private_keys.to_plain_pem(key),
    )
    return member, Pem(*tls)
