"""The round's interface to nodes, independent of what carries the messages, and the links to them."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from math import inf
from typing import Protocol

from common.adapters.link_codecs import codec_named
from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload

LEAST_GRACE = 60.0
"""Seconds that a node may report nothing, at least, where the operator does not set them."""


class Grace:
    """How long nodes that report nothing are waited for, once enough replies count.

    Args:
        enough: number of replies that count.
        seconds: from then, or from a node's last report if that is later; None waits for the messenger's deadline.

    `silent` has the numbers of the nodes that did not answer and reported nothing for that time; `slowest` the seconds
    of the slowest reply that counts, from the making of this.
    """

    def __init__(self, enough: int, seconds: float | None) -> None:
        self._missing, self._seconds = enough, seconds
        self._began, self._since, self.slowest = time.monotonic(), inf, 0.0
        self.silent: set[int] = set()

    def count(self) -> None:
        """Count a reply that counts."""
        now, self._missing = time.monotonic(), self._missing - 1
        self.slowest = now - self._began
        if self._missing == 0:
            self._since = now

    def is_over(self, node: int, reported: float | None) -> bool:
        """Return whether this node, which last reported at this time of `time.monotonic`, is given up, and note it."""
        if self._seconds is None or time.monotonic() < max(self._since, reported or -inf) + self._seconds:
            return False
        self.silent.add(node)
        return True

    def note_missed(self, node: int, reported: float | None) -> None:
        """Note that a node has missed the deadline; it was silent if it did not report shortly before."""
        if reported is None or time.monotonic() >= reported + (self._seconds or LEAST_GRACE):
            self.silent.add(node)


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
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: "Grace"
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield each node's reply to its payload of round `number` as it arrives, or the reason that there is none.

        Args:
            kind: of the messages.
            payloads: by node.
            number: of the round.
            grace: says which nodes are not waited for any more, where the messenger knows their last reports.
        """
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

    def request(self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace) -> Iterator[Reply]:
        """Yield each node's reply to its payload of round `number` as it arrives."""
        wasted: dict[int, int] = {}
        for node, answer, sent in self._request(kind, payloads, number, grace):
            if answer == "missing" and sent < payloads[node].size:
                wasted[node] = sent
                self._held.pop(node, None)
            else:
                yield node, answer, sent
        for node, answer, sent in self._request(kind, {node: payloads[node] for node in wasted}, number, grace):
            yield node, answer, sent + wasted[node]

    def _request(self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: Grace) -> Iterator[Reply]:
        if not payloads:
            return
        connected = set(self._messenger.nodes())
        self._held = {node: held for node, held in self._held.items() if node in connected}
        hashes = _hashes(payloads.values())
        encoded = {node: self._encode(node, payload, hashes) for node, payload in payloads.items()}
        for node, answer in self._messenger.request(kind, encoded, number, grace):
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
