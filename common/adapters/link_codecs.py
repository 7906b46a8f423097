"""Link codecs: the form in which a buffer of factors crosses one link, beside the byte format of `codec`.

A codec is two pure functions; what an end remembers is passed to them. The law for every codec: what is hashed,
recorded and signed is decode(encode(buffer)), so both ends mean the same factors whatever crossed the link.

    #HASH                  a buffer that the receiver holds
    +HASH HASH ADAPTER     a held buffer's factors and, behind them, these: the change; the second hash is of the result
    *ADAPTER               the factors of a float32 buffer, in the wire's type
    =BUFFER                a buffer that begins like one of these
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter, read_layout
from common.adapters.joined import leading_ranks, stack_adapters, trailing_ranks
from common.adapters.rounding import STORED, Wire
from common.errors import CodecError, FedloraError, look_up


class MissingBuffer(FedloraError):
    """The receiver does not hold a buffer that it was sent by its hash; the sender sends it in full."""


@dataclass(frozen=True)
class Held:
    """A buffer that a receiver holds: its SHA-256, and the rank of each module of its adapter, in order of name."""

    digest: str
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(cls, buffer: bytes, digest: str) -> "Held":
        """Describe a buffer; one that is not of whole factors in float32 has no ranks."""
        return cls(digest, _ranks(buffer))


@dataclass(frozen=True)
class LinkCodec:
    """One form on a link.

    Args:
        encode: returns what crosses the link, from a buffer, its SHA-256, what the receiver holds, and the wire, which
            must hold the buffer's numbers without loss.
        decode: returns the buffer, from what crossed the link and the buffers that the receiver holds, by hash. Raises
            MissingBuffer, and CodecError for what is malformed.
    """

    encode: Callable[[bytes, str, Collection[Held], Wire], bytes]
    decode: Callable[[bytes, Mapping[str, bytes]], bytes]


_REFERENCE, _CHANGE, _PACKED, _BUFFER = b"#", b"+", b"*", b"="
_MARKS = (_REFERENCE, _CHANGE, _PACKED, _BUFFER)
_HASH = 64


def form_of(sent: bytes) -> str:
    """Return what a part of a message is: `held`, `change` or `whole`."""
    return {_REFERENCE: "held", _CHANGE: "change"}.get(sent[:1], "whole")


def _encode_plain(buffer: bytes, digest: str, held: Collection[Held], wire: Wire) -> bytes:
    if wire != "float32" and _ranks(buffer):
        return _PACKED + encode_adapter(decode_adapter(buffer), STORED[wire])
    return _BUFFER + buffer if buffer.startswith(_MARKS) else buffer


def _encode_by_hash(buffer: bytes, digest: str, held: Collection[Held], wire: Wire) -> bytes:
    reference = _REFERENCE + digest.encode()
    if any(each.digest == digest for each in held) and len(reference) < len(buffer):
        return reference
    return _encode_plain(buffer, digest, held, wire)


def _encode_by_change(buffer: bytes, digest: str, held: Collection[Held], wire: Wire) -> bytes:
    whole = _encode_by_hash(buffer, digest, held, wire)
    if whole.startswith(_REFERENCE) or not _ranks(buffer):
        return whole
    changes = [change for each in held if (change := _change(buffer, digest, each, wire))]
    return min([*changes, whole], key=len)


def _change(buffer: bytes, digest: str, held: Held, wire: Wire) -> bytes | None:
    """Return what brings the receiver from a held buffer to this one, or None if that is not its leading part."""
    ranks = _ranks(buffer)
    if len(held.ranks) != len(ranks) or any(own > whole for own, whole in zip(held.ranks, ranks, strict=True)):
        return None
    adapter = decode_adapter(buffer, check=False)
    if sha256(encode_adapter(leading_ranks(adapter, held.ranks))).hexdigest() != held.digest:
        return None
    added = encode_adapter(trailing_ranks(adapter, held.ranks), STORED[wire])
    return _CHANGE + held.digest.encode() + digest.encode() + added


def _decode(sent: bytes, held: Mapping[str, bytes]) -> bytes:
    mark = sent[:1]
    if mark == _PACKED:
        return encode_adapter(_decode_whole(memoryview(sent)[1:]).astype("f4"))
    if mark == _CHANGE:
        return _apply_change(sent, held)
    return _find(sent[1:], held) if mark == _REFERENCE else sent.removeprefix(_BUFFER)


def _apply_change(sent: bytes, held: Mapping[str, bytes]) -> bytes:
    before, after, added = sent[1 : 1 + _HASH], sent[1 + _HASH : 1 + 2 * _HASH], memoryview(sent)[1 + 2 * _HASH :]
    if (done := held.get(after.decode("ascii", "replace"))) is not None:
        return done
    base, change = _decode_whole(_find(before, held), check=False), _decode_whole(added)
    if base.shapes != change.shapes:
        raise CodecError("a change is of other modules than the factors that it changes")
    result = encode_adapter(stack_adapters(base, change))
    if sha256(result).hexdigest().encode() != after:
        raise MissingBuffer("a change does not lead to the factors that it names")
    return result


def _decode_whole(buffer: bytes | memoryview, check: bool = True) -> Adapter:
    """Decode a buffer that has all its factors: what is only named would grow from bytes to any size."""
    if any(module.sides != "ab" for module in read_layout(buffer).modules.values()):
        raise CodecError("a global update lacks factors")
    return decode_adapter(buffer, check=check)


def change_hashes(sent: bytes) -> tuple[str, str] | None:
    """Return the hashes of the buffer that a change begins with and of its result; None if it is no change."""
    if not sent.startswith(_CHANGE):
        return None
    before, after = sent[1 : 1 + _HASH], sent[1 + _HASH : 1 + 2 * _HASH]
    return before.decode("ascii", "replace"), after.decode("ascii", "replace")


def makes_update(sent: bytes) -> bool:
    """Return whether this is unpacked to a global update, and so larger than it is."""
    return sent.startswith((_CHANGE, _PACKED))


def _find(digest: bytes, held: Mapping[str, bytes]) -> bytes:
    name = digest.decode("ascii", "replace")
    if name not in held:
        raise MissingBuffer(f"the factors {name[:12]!a} are not held here any more")
    return held[name]


def _ranks(buffer: bytes) -> tuple[int, ...]:
    """Return the rank of each module of a buffer of whole factors in float32; none of any other."""
    try:
        layout = read_layout(buffer)
    except CodecError:
        return ()
    whole = layout.dtype == "f32" and all(module.sides == "ab" for module in layout.modules.values())
    return tuple(module.r for module in layout.modules.values()) if whole else ()


PLAIN = "plain"
CODECS = {
    "by-change": LinkCodec(_encode_by_change, _decode),
    "by-hash": LinkCodec(_encode_by_hash, _decode),
    PLAIN: LinkCodec(_encode_plain, _decode),
}


def codec_named(name: str) -> LinkCodec:
    """Return the codec of this name.

    Raises:
        ConfigError: there is none.
    """
    return look_up(CODECS, "[server] codec", name)


SHARES_A = "shared-a"
"""The form of factors in which an A that stays is a buffer of its own."""


def forms_of(codec: str, wire: Wire, shares_a: bool) -> tuple[str, ...]:
    """Return the names that a node has to know for a run; every release knows float32."""
    return (codec, *([] if wire == "float32" else [wire]), *([SHARES_A] if shares_a else []))
