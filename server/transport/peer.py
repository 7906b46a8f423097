"""The node at the other end of a connection: the name and the key in its certificate."""

from dataclasses import dataclass
from typing import Self

from common.errors import IdentityError
from common.identity.keys import certificates


@dataclass(frozen=True)
class Peer:
    """A node as its certificate names it.

    Args:
        name: the one name in it.
        key: hash of its public key (`certificates.key_hash`).
    """

    name: str
    key: str

    @classmethod
    def from_certificate(cls, pem: bytes) -> Self:
        """Return the node of a certificate whose signature TLS has checked.

        Raises:
            IdentityError: it does not name exactly one node.
        """
        certificate = certificates.from_pem(pem)
        names = certificates.subject_names(certificate)
        if len(names) != 1:
            raise IdentityError(f"the certificate has {len(names)} names; a node's certificate has one")
        return cls(names[0], certificates.key_hash(certificates.public_key(certificate)))
