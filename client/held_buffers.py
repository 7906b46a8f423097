"""The shared buffers that this process received last: the server sends only the hash of one that a node holds."""

from dataclasses import replace
from hashlib import sha256

from common.adapters.link_codecs import PLAIN, codec_named
from common.protocol.payload import Payload

_held: dict[str, bytes] = {}
"""By SHA-256; replaced as a whole, so that threads may read it at any time."""


def read_parts(payload: Payload) -> Payload:
    """Return the payload with each part as the server has it, and hold these parts.

    Raises:
        ConfigError: the payload has a codec that this release does not know.
        MissingBuffer: a part came by the hash of bytes that this process does not hold.
    """
    global _held
    if not payload.parts:
        return payload
    decode, held = codec_named(payload.values.get("codec", PLAIN)).decode, _held
    parts = {name: decode(part, held) for name, part in payload.parts.items()}
    _held = {sha256(part).hexdigest(): part for part in parts.values()}
    return replace(payload, parts=parts)
