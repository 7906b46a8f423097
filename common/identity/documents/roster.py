"""The roster: which nodes may take part, within which limits; signed by the project's key, its version only grows.

A node is revoked by the next version. Names are never used twice.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, Field, model_validator
from pydantic.dataclasses import dataclass

from common.errors import IdentityError, nearest
from common.identity.documents import signed_json
from common.identity.documents.names import NodeName, ProjectName
from common.identity.documents.signed_json import STRICT, SigningKey

RosterLimit = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class Member:
    """A node: the key that its updates are signed with, the hash of its certificate's key (SPKI), and its limits."""

    name: NodeName
    signing_key: SigningKey
    certificate: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    max_rank: RosterLimit
    max_weight: RosterLimit
    expires: AwareDatetime
    revoked: bool = False

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that verifies the node's updates."""
        return Ed25519PublicKey.from_public_bytes(self.signing_key)

    def state(self, now: datetime) -> Literal["current", "revoked", "expired"]:
        """Return "current" if the node may take part now, else the reason word."""
        if self.revoked:
            return "revoked"
        return "current" if now <= self.expires else "expired"


@dataclass(frozen=True, config=STRICT)
class Roster:
    """The members of a project, by name."""

    project: ProjectName
    version: RosterLimit
    members: Mapping[str, Member]

    @model_validator(mode="after")
    def _check_names(self) -> "Roster":
        if any(name != member.name for name, member in self.members.items()):
            raise ValueError("a member is listed under another name than its own")
        return self

    def member(self, name: str) -> Member:
        """Return the member of this name, current or not.

        Raises:
            IdentityError: there is none.
        """
        if name not in self.members:
            hint = nearest(name, self.members) if self.members else "; it has none yet"
            raise IdentityError(f"{name!r} is not a member of project {self.project}{hint}")
        return self.members[name]

    def current(self, now: datetime) -> list[Member]:
        """Return the members that may take part now."""
        return [member for member in self.members.values() if member.state(now) == "current"]

    def successor(self, member: Member) -> "Roster":
        """Return the next version, with this member added, or in place of the member of its name."""
        return replace(self, version=self.version + 1, members={**self.members, member.name: member})


def sign_roster(roster: Roster, key: Ed25519PrivateKey) -> bytes:
    """Sign a roster; return the content of its file."""
    return signed_json.sign_document("roster", roster, key)


def read_roster(data: bytes, key: Ed25519PublicKey, at_least: int = 0) -> Roster:
    """Read the roster in these bytes.

    Raises:
        IdentityError: its form or signature is wrong, or its version is below `at_least`.
    """
    roster = signed_json.open_signed_by("roster", Roster, data, key)
    _check_version(roster.version, at_least)
    return roster


def check_successor(known: Roster, new: Roster) -> Roster:
    """Return the new roster, which may take the place of the newest that is known.

    Raises:
        IdentityError: it is of another project, older, or contradicts the known one of its version.
    """
    if new.project != known.project:
        raise IdentityError(f"the roster is of project {new.project}, not of {known.project}; ask for a new invite")
    _check_version(new.version, known.version)
    if new.version == known.version and new != known:
        raise IdentityError(
            f"there are two rosters of version {new.version}; ask the project's operator which of them is valid"
        )
    return new


def _check_version(version: int, at_least: int) -> None:
    if version < at_least:
        raise IdentityError(
            f"roster version {version} is older than version {at_least}, seen before; use the newest roster.json"
        )
