"""Join requests: a node's name and two public keys, with a proof that it holds both private keys."""

from hashlib import sha256

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pydantic.dataclasses import dataclass

from common.errors import IdentityError
from common.identity.documents import signed_json
from common.identity.documents.names import NodeName
from common.identity.documents.signed_json import STRICT, HexBytes, SigningKey
from common.identity.keys.certificates import PublicKey
from common.identity.keys.private_keys import TlsKey

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
        """Half of the claim's SHA-256, which is enough against a forged one, in groups to read aloud."""
        digest = sha256(_claim(self.name, self.tls_key, self.signing_key)).hexdigest()[:32]
        return " ".join(digest[start : start + 4] for start in range(0, 32, 4))

    @property
    def public_key(self) -> PublicKey:
        """The key for the node's certificate.

        Raises:
            IdentityError: it is not on P-384.
        """
        try:
            key = load_der_public_key(self.tls_key)
        except (ValueError, UnsupportedAlgorithm, InternalError):
            raise IdentityError(_DAMAGED) from None
        if isinstance(key, PublicKey) and isinstance(key.curve, ec.SECP384R1):
            return key
        raise IdentityError(_DAMAGED)


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
    return signed_json.signed_bytes("claim", {"name": name, "tls_key": tls_key.hex(), "signing_key": signing_key.hex()})
