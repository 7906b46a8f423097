"""Names of kinds of public keys, for errors: fedlora's certificates are of keys on P-384 alone."""

from typing import TypeGuard

from cryptography.hazmat.primitives.asymmetric import ec, rsa


def is_p384(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    """Return whether a public key is on P-384, the curve secp384r1."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def kind_of(key: object) -> str:
    """Return the kind of a public key: `a key on curve secp521r1`, `an RSA key of 2048 bits`, `an Ed25519 key`."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"a key on curve {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"an RSA key of {key.key_size} bits"
    name = type(key).__name__.removesuffix("PublicKey")
    return f"{'an' if name[0] in 'AEIOUX' else 'a'} {name} key"
