"""Join requests: a node's name and two public keys, with a proof that it holds both private keys."""

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pydantic.dataclasses import dataclass

from common.errors import IdentityError
from common.identity.documents import fingerprints, signed_json
from common.identity.documents.names import NodeName
from common.identity.documents.signed_json import STRICT, HexBytes, SigningKey
from common.identity.keys.certificates import PublicKey
from common.identity.keys.key_kinds import is_p384, kind_of
from common.identity.keys.private_keys import TlsKey

_NEEDED = "one on P-384 (secp384r1) is needed: make it again with fedlora keys join"
_DAMAGED = "does not prove that its maker holds the node's keys; make it again with fedlora keys join"


@dataclass(frozen=True, config=STRICT)
class JoinRequest:
    """A node's claim to its name and keys (`tls_key` is SPKI, DER); `proof` is that claim signed with the TLS key."""

    name: NodeName
    tls_key: HexBytes
    signing_key: SigningKey
    proof: HexBytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the claim, to read aloud."""
        return fingerprints.fingerprint("claim", _facts(self.name, self.tls_key, self.signing_key))

    @property
    def public_key(self) -> PublicKey:
        """The key for the node's certificate.

        Raises:
            IdentityError: it is not on P-384; names its kind.
        """
        try:
            key = load_der_public_key(self.tls_key)
        except (ValueError, UnsupportedAlgorithm, InternalError):
            raise IdentityError(f"contains a TLS key in an unknown form; {_NEEDED}") from None
        if is_p384(key):
            return key
        raise IdentityError(f"contains {kind_of(key)} for TLS; {_NEEDED}")


def make_request(name: str, tls_key: TlsKey, signing_key: Ed25519PrivateKey) -> bytes:
    """Make a request of the holder of these keys; return the content of its file."""
    public = tls_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signing = signing_key.public_key().public_bytes_raw()
    proof = tls_key.sign(_claim(name, public, signing), ec.ECDSA(SHA384()))
    return signed_json.sign_document("request", JoinRequest(name, public, signing, proof), signing_key)


def read_request(data: bytes) -> JoinRequest:
    """Read the request in these bytes, made by the holder of both private keys.

    Raises:
        IdentityError: it is not a request, or was not made by their holder.
    """
    request = signed_json.open_document(
        "request", JoinRequest, data, lambda it: Ed25519PublicKey.from_public_bytes(it.signing_key)
    )
    claim = _claim(request.name, request.tls_key, request.signing_key)
    try:
        request.public_key.verify(request.proof, claim, ec.ECDSA(SHA384()))
    except InvalidSignature:
        raise IdentityError(_DAMAGED) from None
    return request


def _claim(name: str, tls_key: bytes, signing_key: bytes) -> bytes:
    return signed_json.signed_bytes("claim", _facts(name, tls_key, signing_key))


def _facts(name: str, tls_key: bytes, signing_key: bytes) -> dict[str, str]:
    return {"name": name, "tls_key": tls_key.hex(), "signing_key": signing_key.hex()}
