"""The protocol's other side in NumPy: nodes in memory that train real factors, and a messenger for payloads."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from common.adapters import codec
from common.adapters.adapter import Adapter, Array, Factors, Shapes
from common.adapters.gradient import compress, gradient_form, unsent
from common.adapters.link_codecs import Held, MissingBuffer, codec_named
from common.adapters.rounding import round_adapter
from common.heads import requests
from common.heads.class_sums import pack_sums, sum_rows
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule
from common.planning.requests import MODULE_ENERGIES, clip_energies
from common.protocol.announcement import Announcement
from common.protocol.assignment import Assignment, Training, Update
from common.protocol.messages import RejectionReason, RoundId, pack_gradient, pack_rounded, unpack_assignment
from common.protocol.payload import Kind, Payload
from common.seeding import rng

SHAPES = {"head": (3, 8), "query": (8, 8), "value": (6, 10)}


class AdamW:
    """PyTorch's, with its defaults and no weight decay, on one factor: its moves are within what an order allows."""

    def __init__(self) -> None:
        self._steps, self._first, self._second = 0, np.zeros(()), np.zeros(())

    def move(self, rate: float, gradient: Array) -> Array:
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first, second = self._first / (1 - 0.9**self._steps), self._second / (1 - 0.999**self._steps)
        return -rate * first / (np.sqrt(second) + 1e-8)


def described(base: str = "base", shapes: Shapes = SHAPES) -> ModelDescription:
    """Return the model that a NumpyNode announces."""
    return ModelDescription(base, "classification", shapes)


HEAD = (HeadModule("head", last=True, bias=True),)


@dataclass(frozen=True)
class NumpyNode:
    """A client whose loss is ||W - T||^2 / 2 summed over modules: it moves the global update W towards its own T."""

    name: str
    rank: int
    rows: int = 10
    base: str = "base"
    shapes: Shapes = field(default_factory=lambda: SHAPES)
    held: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    kept: Held | None = None
    head: tuple[HeadModule, ...] = ()
    unfinished: tuple[str, ...] = ()

    def announcement(self) -> Announcement:
        model = replace(described(self.base, self.shapes), head=self.head)
        return Announcement(self.name, self.rank, self.rows, model, held=self.kept, unfinished=self.unfinished)

    def answer(self, kind: Kind, payload: Payload) -> Payload | RejectionReason:
        """Return the reply that a client app would give."""
        if kind == "query":
            return Payload(self.announcement().to_values())
        try:
            return self._answer(kind, payload, self._received(payload))
        except MissingBuffer:
            return "missing"

    def _answer(self, kind: Kind, payload: Payload, parts: Mapping[str, bytes]) -> Payload:
        round_id = RoundId.from_values(payload.values).to_values()
        if payload.values.get(requests.ASKS) == MODULE_ENERGIES:
            return self._energies(round_id, codec.decode_adapter(parts["frozen"]))
        if requests.ASKS in payload.values:
            return self._for_head(round_id, payload.values, parts)
        if kind == "evaluate":
            return Payload(round_id | {"loss": self.loss(codec.decode_adapter(parts["frozen"])), "count": self.rows})
        assignment = unpack_assignment(payload.values, payload.blob, parts)
        update = self.train(assignment, Training.from_values(payload.values))
        counts = {"examples": update.examples, "tokens": update.tokens, "loss": update.loss}
        if assignment.returns == "compressed-gradient":
            return Payload(round_id | counts | {"noise": 0.0}, pack_gradient(update.adapter, assignment.wire))
        key = Training.from_values(payload.values).stream_key(self.name)
        return Payload(round_id | counts, pack_rounded(update, assignment, key))

    def features(self, part: str, count: int) -> tuple[Array, Any]:
        """Return features (n, H) and labels of rows, drawn about a mean for each class."""
        (classes, width), draw = self.shapes["head"], rng(self.name, part)
        labels = draw.integers(classes, size=count)
        means = rng("means").standard_normal((classes, width))
        return means[labels] + 0.3 * draw.standard_normal((count, width)), labels

    def _energies(self, round_id: Mapping[str, Any], update: Adapter) -> Payload:
        """Return the clipped energy of each module's gradient but the head's; the base has 1,000 parameters."""
        names = sorted(update.keys() - {each.name for each in self.head})
        energies = [float(np.sum(self._gap(name, dense(update[name])) ** 2)) for name in names]
        return Payload({**round_id, "energies": clip_energies(energies), "parameters": 1000})

    def _for_head(self, round_id: Mapping[str, Any], asked: Mapping[str, Any], parts: Mapping[str, bytes]) -> Payload:
        """Return class sums of the node's rows, or the losses of heads on a few others."""
        if asked[requests.ASKS] == requests.CLASS_SUMS:
            sums = sum_rows(*self.features("rows", self.rows), self.shapes["head"][0], asked["gram"])
            return Payload({**round_id, "rows": self.rows, "left_out": 0}, pack_sums(sums))
        features, labels = self.features("held", 4)
        losses = []
        for head in requests.unpack_heads(parts[requests.HEADS]):
            for divisor in requests.temperatures(asked):
                logits = features @ dense(head).T / divisor
                logits -= logits.max(axis=1, keepdims=True)
                own = logits[np.arange(4), labels]
                losses.append(float(np.sum(np.log(np.exp(logits).sum(axis=1)) - own)))
        return Payload({**round_id, "losses": losses, "count": 4})

    def _received(self, payload: Payload) -> Mapping[str, bytes]:
        """Return the parts of a message, which it may name by the hash of what the node holds."""
        decode = codec_named(payload.values.get("codec", "plain")).decode
        parts = {name: decode(part, self.held) for name, part in payload.parts.items()}
        self.held.update({sha256(part).hexdigest(): part for part in parts.values()})
        return parts

    def loss(self, adapter: Adapter) -> float:
        return sum(float(np.sum(self._gap(name, dense(factors)) ** 2)) / 2 for name, factors in adapter.items())

    def train(self, assignment: Assignment, training: Training) -> Update:
        if assignment.returns == "compressed-gradient":
            return self._compress(assignment, training)
        modules = {name: self._descend(name, assignment, training.learning_rates) for name in assignment.start}
        adapter = Adapter(modules).astype("f4")
        return Update(adapter, self.rows, 7 * self.rows, self.loss(adapter))

    def _compress(self, assignment: Assignment, training: Training) -> Update:
        """Return the gradient at the shared factors, without a memory of what it leaves out."""
        sides = {}
        for side in gradient_form(assignment.start, assignment.trains, assignment.reply_rank):
            factors = assignment.start[side[2:]].astype("f8")
            frozen = dense(assignment.frozen[side[2:]]) if side[2:] in assignment.frozen else 0.0
            gap = self._gap(side[2:], frozen + dense(factors))
            gradient = gap @ factors.a.T if side[0] == "b" else gap.T @ factors.b
            sides[side] = compress(gradient, assignment.reply_rank)
        exact, key = Adapter(sides), training.stream_key(self.name)
        sides = dict(round_adapter(exact, assignment.wire, *key, omit=unsent(exact)))
        rows = min(self.rows, training.rows)
        return Update(Adapter(sides), rows, 7 * rows, self.loss(assignment.start))

    def _descend(self, name: str, assignment: Assignment, rates: Iterable[float]) -> Factors:
        """AdamW on A and the unscaled B, or on B alone; the scale is folded into what is sent."""
        s, start = assignment.scaling, assignment.start[name].astype("f8")
        a, b = start.a, start.b / s
        frozen = dense(assignment.frozen[name]) if name in assignment.frozen else 0.0
        if assignment.returns == "gradient":
            return Factors(a, self._gap(name, frozen + s * b @ a) @ a.T)
        adam_a, adam_b = AdamW(), AdamW()
        for rate in rates:
            gap = self._gap(name, frozen + s * b @ a)
            more_a, more_b = self._terms(name, assignment, a - start.a, b - start.b / s)
            move_a = adam_a.move(rate, s * b.T @ gap + more_a) if assignment.trains == "both" else 0.0
            a, b = a + move_a, b + adam_b.move(rate, s * gap @ a.T + more_b)
        return Factors(a, s * b)

    def _terms(self, name: str, assignment: Assignment, moved_a: Array, moved_b: Array) -> tuple[Any, Any]:
        """Return what the terms of the assignment add to the gradients of A and the unscaled B."""
        named = {term.name: term for term in assignment.terms}
        mu = named["proximal"].numbers["mu"] if "proximal" in named else 0.0
        shift = assignment.scaling * named["control-variate"].adapter[name].b if "control-variate" in named else 0.0
        return mu * moved_a, mu * moved_b + shift

    def _gap(self, name: str, weight: Array) -> Array:
        return weight - rng(self.name, name).standard_normal(weight.shape)


Tamper = Callable[[str, Kind, int, Payload | RejectionReason], Payload | RejectionReason]
"""Fate of a reply in transit, by the node's name, the kind and the round."""


class MemoryExchange:
    """Payloads to nodes in memory; `connected` may change between rounds."""

    def __init__(self, nodes: Iterable[NumpyNode], tamper: Tamper = lambda name, kind, number, reply: reply) -> None:
        self.connected = dict(enumerate(nodes, 100))
        self.tamper = tamper
        self.arrange: Callable[[list[int]], list[int]] = list
        self.asked: list[tuple[Kind, int, list[str]]] = []

    def nodes(self) -> Iterable[int]:
        return list(self.connected)

    def name(self, node: int) -> str:
        return self.connected[node].name

    def announcements(self, question: Payload, known: Collection[int]) -> list[tuple[int, Payload | RejectionReason]]:
        new = {node: question for node in self.nodes() if node not in known}
        return list(self.request("query", new, 0)) if new else []

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: object = None
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        self.asked.append((kind, number, [self.connected[node].name for node in payloads if node in self.connected]))
        for node in self.arrange(list(payloads)):
            who = self.connected.get(node)
            yield node, self.tamper(who.name, kind, number, who.answer(kind, payloads[node])) if who else "absent"


class Recorded(MemoryExchange):
    """Remembers each payload and each reply, by kind, round and name."""

    def __init__(self, nodes: Iterable[NumpyNode]) -> None:
        super().__init__(nodes)
        self.payloads: dict[tuple[Kind, int, str], Payload] = {}
        self.replies: dict[tuple[Kind, int, str], Payload | RejectionReason] = {}

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: object = None
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        for node, reply in super().request(kind, payloads, number, grace):
            key = kind, number, self.connected[node].name
            self.payloads[key], self.replies[key] = payloads[node], reply
            yield node, reply


def dense(factors: Factors) -> Array:
    """dW in float64, as the oracle has it."""
    return factors.b.astype("f8") @ factors.a.astype("f8")
