"""The links to the nodes: each buffer crosses in the form of a link codec, by what the node holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from common.adapters.link_codecs import Held, LinkCodec, codec_named, form_of
from common.adapters.rounding import Wire
from common.protocol.messages import FROZEN, RejectionReason
from common.protocol.payload import Kind, Payload
from server.links.grace import Grace
from server.links.messenger import Messenger

Sent = Mapping[str, int]
"""Bytes by part: `whole` and `change` of the global update, and `factors`, those to train from and of terms."""
Reply = tuple[int, Payload | RejectionReason, Sent]
"""A node's number, its reply or the reason that there is none, and what was sent to it."""


class Links:
    """Sends payloads in the form of a link codec; a node that has lost what it held is sent it again in full.

    Args:
        messenger: sends them.
        codec: name of the codec for the buffers in `Payload.parts`.
        wire: type of the numbers in what is sent.
        announced: returns the buffer that a node, by number, held as it announced itself.

    Raises:
        ConfigError: there is no such codec.
    """

    def __init__(
        self,
        messenger: Messenger,
        codec: str,
        wire: Wire = "float32",
        announced: Callable[[int], Held | None] = lambda node: None,
    ) -> None:
        self._messenger, self._name, self._codec = messenger, codec, codec_named(codec)
        self._wire, self._announced = wire, announced
        self._held: dict[int, dict[Kind, tuple[Held, ...]]] = {}

    def request(self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace) -> Iterator[Reply]:
        """Yield each node's reply to its payload of round `number` as it arrives."""
        wasted: dict[int, Sent] = {}
        for node, answer, sent in self._request(kind, payloads, number, grace):
            if answer == "missing" and sum(sent.values()) < payloads[node].size and self._holds(node):
                wasted[node] = sent
                self._held[node] = {}
            else:
                yield node, answer, sent
        for node, answer, sent in self._request(kind, {node: payloads[node] for node in wasted}, number, grace):
            yield node, answer, _added(wasted[node], sent)

    def _request(self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace) -> Iterator[Reply]:
        if not payloads:
            return
        connected = set(self._messenger.nodes())
        self._held = {node: held for node, held in self._held.items() if node in connected}
        sending = _Sending(self._codec, self._wire, payloads.values())
        encoded = {node: sending.encode(payload, self._holds(node)) for node, payload in payloads.items()}
        named = {
            node: replace(payload, values={**payload.values, "codec": self._name}) for node, payload in encoded.items()
        }
        for node, answer in self._messenger.request(kind, named, number, grace):
            if isinstance(answer, Payload) and payloads[node].parts:
                self._held.setdefault(node, {})[kind] = sending.holdings(payloads[node])
            yield node, answer, _sizes(encoded[node])

    def _holds(self, node: int) -> tuple[Held, ...]:
        """Return what a node holds: what the last messages of each kind brought, or before any what it announced."""
        if node in self._held:
            return tuple(dict.fromkeys(each for held in self._held[node].values() for each in held))
        announced = self._announced(node)
        return (announced,) if announced else ()


class _Sending:
    """The buffers of one request: each is hashed once, and encoded once for all nodes that hold the same."""

    def __init__(self, codec: LinkCodec, wire: Wire, payloads: Iterable[Payload]) -> None:
        self._codec, self._wire, self._hashes = codec, wire, _hashes(payloads)
        self._encoded: dict[tuple[str, tuple[Held, ...], Wire], bytes] = {}
        self._described: dict[str, Held] = {}

    def encode(self, payload: Payload, held: tuple[Held, ...]) -> Payload:
        """Return the payload as it is sent to a node that holds these buffers."""
        # Only the global update is made of numbers that the wire holds; other buffers are as they cross already.
        wires: dict[str, Wire] = {name: self._wire if name == FROZEN else "float32" for name in payload.parts}
        parts = {name: self._encode(part, held, wires[name]) for name, part in payload.parts.items()}
        return replace(payload, parts=parts)

    def holdings(self, payload: Payload) -> tuple[Held, ...]:
        """Return what a node holds once it has read this payload."""
        return tuple(self._describe(part) for part in payload.parts.values())

    def _encode(self, part: bytes, held: tuple[Held, ...], wire: Wire) -> bytes:
        digest = self._hashes[id(part)]
        held = tuple(each for each in held if each.digest == digest or self._may_grow(each, part))
        key = digest, held, wire
        if key not in self._encoded:
            self._encoded[key] = self._codec.encode(part, digest, held, wire)
        return self._encoded[key]

    def _may_grow(self, held: Held, part: bytes) -> bool:
        """Return whether a held buffer has the modules of this one, so that it may be a leading part."""
        return 0 < len(held.ranks) == len(self._describe(part).ranks)

    def _describe(self, part: bytes) -> Held:
        digest = self._hashes[id(part)]
        return self._described.setdefault(digest, Held.of(part, digest))


def _sizes(sent: Payload) -> dict[str, int]:
    """Return the bytes of a payload by part; a reference to what is held counts as a change."""
    sizes = {"factors": len(sent.blob)}
    for name, part in sent.parts.items():
        kind = "factors" if name != FROZEN else "whole" if form_of(part) == "whole" else "change"
        sizes[kind] = sizes.get(kind, 0) + len(part)
    return sizes


def _added(one: Sent, other: Sent) -> Sent:
    return {part: one.get(part, 0) + other.get(part, 0) for part in {**one, **other}}


def _hashes(payloads: Iterable[Payload]) -> dict[int, str]:
    """Return the SHA-256 of each buffer by its identity: many payloads have one in common, which is hashed once."""
    buffers = {id(part): part for payload in payloads for part in payload.parts.values()}
    return {number: sha256(part).hexdigest() for number, part in buffers.items()}
