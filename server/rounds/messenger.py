"""The round's interface to nodes, independent of what carries the messages, and the links to them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from common.adapters.link_codecs import codec_named
from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload


class Messenger(Protocol):
    """Sends payloads to nodes and returns their replies."""

    def nodes(self) -> Iterable[int]:
        """Return the numbers of the connected nodes."""
        ...

    def name(self, node: int) -> str:
        """Return the name of a connected node, for people."""
        ...

    def announcements(
        self, question: Payload, known: Collection[int]
    ) -> Iterable[tuple[int, Payload | RejectionReason]]:
        """Ask connected nodes that are not `known` to announce themselves, once each; return what has arrived by now.

        It does not wait: a node answers when it has read its base model and rows.
        """
        ...

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield each node's reply to its payload of round `number` as it arrives, or the reason that there is none."""
        ...


Reply = tuple[int, Payload | RejectionReason, int]
"""A node's number, its reply or the reason that there is none, and the bytes of factors that were sent to it."""


class Links:
    """Sends payloads in the form of a link codec; a node that has lost what it held is sent it again in full.

    Args:
        messenger: sends them.
        codec: name of the codec for the buffers in `Payload.parts`.

    Raises:
        ConfigError: there is no such codec.
    """

    def __init__(self, messenger: Messenger, codec: str) -> None:
        self._messenger, self._name, self._codec = messenger, codec, codec_named(codec)
        self._held: dict[int, frozenset[str]] = {}

    def request(self, kind: Kind, payloads: Mapping[int, Payload], number: int) -> Iterator[Reply]:
        """Yield each node's reply to its payload of round `number` as it arrives."""
        wasted: dict[int, int] = {}
        for node, answer, sent in self._request(kind, payloads, number):
            if answer == "missing" and sent < payloads[node].size:
                wasted[node] = sent
                self._held.pop(node, None)
            else:
                yield node, answer, sent
        for node, answer, sent in self._request(kind, {node: payloads[node] for node in wasted}, number):
            yield node, answer, sent + wasted[node]

    def _request(self, kind: Kind, payloads: Mapping[int, Payload], number: int) -> Iterator[Reply]:
        if not payloads:
            return
        connected = set(self._messenger.nodes())
        self._held = {node: held for node, held in self._held.items() if node in connected}
        hashes = _hashes(payloads.values())
        encoded = {node: self._encode(node, payload, hashes) for node, payload in payloads.items()}
        for node, answer in self._messenger.request(kind, encoded, number):
            if isinstance(answer, Payload) and payloads[node].parts:
                self._held[node] = frozenset(hashes[id(part)] for part in payloads[node].parts.values())
            yield node, answer, encoded[node].size

    def _encode(self, node: int, payload: Payload, hashes: Mapping[int, str]) -> Payload:
        held = self._held.get(node, frozenset())
        parts = {name: self._codec.encode(part, hashes[id(part)], held) for name, part in payload.parts.items()}
        return replace(payload, values={**payload.values, "codec": self._name}, parts=parts)


def _hashes(payloads: Iterable[Payload]) -> dict[int, str]:
    """Return the SHA-256 of each buffer by its identity: many payloads have one in common, which is hashed once."""
    buffers = {id(part): part for payload in payloads for part in payload.parts.values()}
    return {number: sha256(part).hexdigest() for number, part in buffers.items()}
