"""Link codecs: the form in which a buffer of factors crosses one link, beside the byte format of `codec`.

A codec is two pure functions; what an end remembers is passed to them. The law for every codec: what is hashed,
recorded and signed is decode(encode(buffer)), so both ends mean the same factors whatever crossed the link.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from common.errors import FedloraError, look_up


class MissingBuffer(FedloraError):
    """The receiver no longer holds a buffer that it was sent by its hash; the sender sends it in full."""


@dataclass(frozen=True)
class LinkCodec:
    """One form on a link.

    Args:
        encode: returns what crosses the link, from a buffer, its SHA-256, and the hashes that the receiver holds.
        decode: returns the buffer, from what crossed the link and the buffers that the receiver holds, by hash. Raises
            MissingBuffer.
    """

    encode: Callable[[bytes, str, Container[str]], bytes]
    decode: Callable[[bytes, Mapping[str, bytes]], bytes]


_REFERENCE, _BUFFER = b"#", b"="
"""First byte of a hash in place of a buffer, and the one before a buffer that begins with either of the two."""


def _encode_by_hash(buffer: bytes, digest: str, held: Container[str]) -> bytes:
    reference = _REFERENCE + digest.encode()
    if digest in held and len(reference) < len(buffer):
        return reference
    return _BUFFER + buffer if buffer.startswith((_REFERENCE, _BUFFER)) else buffer


def _decode_by_hash(sent: bytes, held: Mapping[str, bytes]) -> bytes:
    if not sent.startswith(_REFERENCE):
        return sent.removeprefix(_BUFFER)
    digest = sent[len(_REFERENCE) :].decode("ascii", "replace")
    if digest not in held:
        raise MissingBuffer(f"the factors {digest:.12} are not held here any more")
    return held[digest]


PLAIN = "plain"
CODECS = {
    "by-hash": LinkCodec(_encode_by_hash, _decode_by_hash),
    PLAIN: LinkCodec(lambda buffer, digest, held: buffer, lambda sent, held: sent),
}


def codec_named(name: str) -> LinkCodec:
    """Return the codec of this name.

    Raises:
        ConfigError: there is none.
    """
    return look_up(CODECS, "[server] codec", name)
