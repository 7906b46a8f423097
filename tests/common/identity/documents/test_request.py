import dataclasses
import json
import re
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IdentityError
from common.identity.documents import request, signed_json
from common.identity.documents.request import JoinRequest
from common.identity.keys.private_keys import new_signing_key, new_tls_key
from tests.helpers.common.identity_parties import mutations

TLS, SIGNING = new_tls_key(), new_signing_key()
DATA = request.make_request("hospital-a", TLS, SIGNING)
REQUEST = request.read_request(DATA)


def resigned(**changes: object) -> bytes:
    """Return the request with other values, signed with the node's own Ed25519 key."""
    return signed_json.sign_document("request", dataclasses.replace(REQUEST, **changes), SIGNING)


def test_a_request_holds_the_nodes_public_keys() -> None:
    assert REQUEST.name == "hospital-a"
    assert REQUEST.public_key == TLS.public_key()
    assert REQUEST.signing_key == SIGNING.public_key().public_bytes_raw()
    assert b"PRIVATE" not in DATA


def test_the_fingerprint_is_of_name_and_keys() -> None:
    assert re.fullmatch("([0-9a-f]{4} ){7}[0-9a-f]{4}", REQUEST.fingerprint)
    again = request.read_request(request.make_request("hospital-a", TLS, SIGNING))
    assert again.proof != REQUEST.proof
    assert again.fingerprint == REQUEST.fingerprint
    others = [
        ("hospital-b", TLS, SIGNING),
        ("hospital-a", new_tls_key(), SIGNING),
        ("hospital-a", TLS, new_signing_key()),
    ]
    assert REQUEST.fingerprint not in {
        request.read_request(request.make_request(*other)).fingerprint for other in others
    }


def test_a_request_needs_both_private_keys() -> None:
    assert request.read_request(resigned()) == REQUEST
    stranger = request.read_request(request.make_request("hospital-a", new_tls_key(), new_signing_key()))
    for change in ("tls_key", "proof"):
        with pytest.raises(IdentityError, match="does not prove"):
            request.read_request(resigned(**{change: getattr(stranger, change)}))
    with pytest.raises(IdentityError, match="signature"):
        request.read_request(resigned(signing_key=stranger.signing_key))
    with pytest.raises(IdentityError, match="does not prove"):
        request.read_request(resigned(name="hospital-b"))


def test_a_stranger_cannot_put_his_signing_key_beside_a_nodes_tls_key() -> None:
    own = new_signing_key()
    forged = dataclasses.replace(REQUEST, signing_key=own.public_key().public_bytes_raw())
    with pytest.raises(IdentityError, match="does not prove"):
        request.read_request(signed_json.sign_document("request", forged, own))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "ca"])
def test_a_bad_name_is_refused(name: str) -> None:
    data = DATA.replace(b'"name":"hospital-a"', json.dumps({"name": name}, separators=(",", ":"))[1:-1].encode())
    with pytest.raises(IdentityError, match="node name"):
        request.read_request(data)


OTHERS = {
    "a key on curve secp521r1": ec.generate_private_key(ec.SECP521R1()),
    "a key on curve secp256r1": ec.generate_private_key(ec.SECP256R1()),
    "a key on curve secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "a key on curve brainpoolP384r1": ec.generate_private_key(ec.BrainpoolP384R1()),
    "an RSA key of 2048 bits": rsa.generate_private_key(65537, 2048),
    "an Ed25519 key": new_signing_key(),
    "an X448 key": x448.X448PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_key_of_another_kind_is_named_beside_the_one_that_is_needed(kind: str) -> None:
    spki = OTHERS[kind].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(IdentityError, match=rf"contains {kind} for TLS; one on P-384 \(secp384r1\) is needed"):
        request.read_request(resigned(tls_key=spki))


def test_bytes_that_are_no_key_are_refused() -> None:
    with pytest.raises(IdentityError, match="unknown form; one on P-384"):
        request.read_request(resigned(tls_key=b"no key"))


@given(mutations(DATA))
def test_changed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IdentityError):
        request.read_request(data)


@pytest.mark.parametrize("spelt", [lambda text: f"{text[:2]} {text[2:]}", str.upper])
def test_a_signature_has_one_spelling(spelt: Callable[[str], str]) -> None:
    signature = json.loads(DATA)["signature"]
    with pytest.raises(IdentityError, match="not a complete request"):
        request.read_request(DATA.replace(signature.encode(), spelt(signature).encode()))


@given(st.binary(max_size=200) | mutations(REQUEST.tls_key), mutations(REQUEST.proof))
def test_changed_values_are_refused_though_signed(tls_key: bytes, proof: bytes) -> None:
    for change in ({"tls_key": tls_key}, {"proof": proof}):
        with pytest.raises(IdentityError):
            request.read_request(resigned(**change))


def test_a_private_key_of_another_makes_no_request() -> None:
    public = SIGNING.public_key().public_bytes_raw()
    with pytest.raises(IdentityError, match="signature of this request"):
        request.read_request(
            signed_json.sign_document("request", JoinRequest("a", REQUEST.tls_key, public, b""), new_signing_key())
        )
