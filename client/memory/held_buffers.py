"""The shared buffers that each node of this process received last: the server sends only what a node does not hold yet.

Of each kind of message the last two are held: one whose reply was lost may not be what the server goes on from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from common.adapters.link_codecs import PLAIN, change_hashes, codec_named, makes_update
from common.errors import CodecError
from common.protocol.messages import FROZEN
from common.protocol.payload import Payload

Buffers = Mapping[str, bytes]
"""By SHA-256."""
_held: dict[tuple[Path, str], tuple[Buffers, ...]] = {}
"""By node and kind of message; each is replaced as a whole, so that threads may read it at any time."""


def read_parts(payload: Payload, kind: str, node: Path) -> Payload:
    """Return the payload with each part as the server has it, and hold these parts as the node's last of this kind.

    Raises:
        ConfigError: the payload has a codec that this release does not know.
        MissingBuffer: a part came by the hash of bytes that the node does not hold.
        CodecError: a part is malformed.
    """
    if not payload.parts:
        return payload
    if any(makes_update(part) for name, part in payload.parts.items() if name != FROZEN):
        raise CodecError("only the global update may come as a change or in fewer bits")
    decode, own = codec_named(payload.values.get("codec", PLAIN)).decode, _of(node)
    parts = {name: _known_result(part, own) or decode(part, own) for name, part in payload.parts.items()}
    hold(parts.values(), kind, node)
    return replace(payload, parts=parts)


def hold(parts: Iterable[bytes], kind: str, node: Path) -> None:
    """Hold these buffers as those of the node's last message of this kind; equal ones are in memory once."""
    everywhere = _everywhere()
    named = ((sha256(part).hexdigest(), part) for part in parts)
    new = {digest: everywhere.get(digest, part) for digest, part in named}
    before = [each for each in _held.get((node, kind), ()) if each.keys() != new.keys()]
    _held[node, kind] = (*before[-1:], new)


def _known_result(part: bytes, own: Buffers) -> bytes | None:
    """Return the result of a change of what this node holds, if another node of this process has made it already."""
    hashes = change_hashes(part)
    return _everywhere().get(hashes[1]) if hashes and hashes[0] in own else None


def _of(node: Path) -> Buffers:
    return _merged(held for (owner, _), held in list(_held.items()) if owner == node)


def _everywhere() -> Buffers:
    return _merged(list(_held.values()))


def _merged(each: Iterable[tuple[Buffers, ...]]) -> Buffers:
    return {digest: part for held in each for buffers in held for digest, part in buffers.items()}
