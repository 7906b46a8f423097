"""A node of a NumpyProject in a process of its own, which spoils its replies in some rounds."""

import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
from flwr.app import ConfigRecord, Message

from client.network.link import Link
from client.network.responder import Responder
from common.errors import CodecError, FedloraError
from common.protocol.payload import Kind, Payload
from tests.chaos.processes import say_met
from tests.helpers.end_to_end import numpy_project
from tests.helpers.end_to_end.invalid_replies import CONTENT, flipped
from tests.helpers.end_to_end.numpy_project import NumpyProject, RunningNode
from tests.helpers.server.exchange import NumpyNode

ATTEMPTS = 2
"""Attempts at a round in which a reply is spoilt; the next one is honest, so that every run ends."""


def take_part(project: NumpyProject, port: int, node: NumpyNode, spoils: Mapping[int, str]) -> None:
    """Take part until the run is over; exits with status 1 for a node that is refused, or cannot go on."""
    spoiler, project.port = Spoiler(node.name, spoils), port
    numpy_project.Link = partial(_Link, spoiler)  # type: ignore[assignment, misc]
    numpy_project.Responder = partial(_Responder, spoiler)  # type: ignore[assignment, misc]
    faults: list[threading.ExceptHookArgs] = []
    threading.excepthook = faults.append
    try:
        running = RunningNode(project, node, spoiler.change)
        running.thread.join()
    except (FedloraError, OSError) as error:
        sys.exit(f"error: {error}")
    for fault in faults:
        if not isinstance(fault.exc_value, FedloraError | OSError):
            threading.__excepthook__(fault)
        sys.exit(f"error: {fault.exc_value}")
    if running.refusal:
        sys.exit(f"error: {running.refusal}")


class Spoiler:
    """What a node does to its replies, by round: before they are signed, after, or on their way."""

    def __init__(self, name: str, spoils: Mapping[int, str]) -> None:
        self._name, self._spoils, self.now = name, spoils, ""
        self.before: dict[str, Any] = {}

    def change(self, kind: Kind, asked: Payload, reply: Payload) -> Payload:
        """Return what is signed."""
        due = kind == "train" and asked.values["attempt"] <= ATTEMPTS
        self.now = self._spoils.get(asked.values["round"], "") if due else ""
        if self.now:
            say_met(f"reply@{self._name}:{asked.values['round']}={self.now}")
        if self.now in CONTENT:
            with suppress(CodecError):  # B alone cannot be read without the A that it belongs to.
                return Payload(*CONTENT[self.now].spoil(dict(reply.values), reply.blob))
        half = reply.blob[: len(reply.blob) // 2]
        blob = {"oversized": reply.blob + bytes(2**22)}.get(
            self.now, half if self.now in (*CONTENT, "truncated") else reply.blob
        )
        return replace(reply, blob=blob)

    def resign(self, signed: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a signed reply that are sent."""
        before, self.before = self.before, signed
        if self.now == "replayed":
            return signed | {key: before[key] for key in ("nonce", "signature") if key in before}
        return signed | ({"signature": flipped(signed["signature"])} if self.now == "flipped" else {})

    def garble(self, frames: Iterable[bytes]) -> list[bytes]:
        """Return the frames that are sent."""
        frames = list(frames)
        return [flipped(frame) for frame in frames] if self.now == "garbled" else frames


class _Responder(Responder):
    def __init__(self, spoiler: Spoiler, *args: Any) -> None:
        super().__init__(*args)
        self._spoiler = spoiler

    def _sign(self, reply: Message) -> Message:
        signed = super()._sign(reply)
        if signed.has_content():
            signed.content["values"] = ConfigRecord(self._spoiler.resign(dict(signed.content["values"])))
        return signed


class _Link(Link):
    def __init__(self, spoiler: Spoiler, *args: Any) -> None:
        super().__init__(*args)
        self._spoiler = spoiler

    def _channel(self) -> Any:
        return _Channel(super()._channel(), self._spoiler)


class _Channel:
    """A channel whose replies are spoilt on their way, or sent twice."""

    def __init__(self, real: Any, spoiler: Spoiler) -> None:
        self._real, self._spoiler = real, spoiler
        self.unary_stream, self.unary_unary = real.unary_stream, real.unary_unary

    def __enter__(self) -> "_Channel":
        self._real.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)

    def stream_unary(self, method: str) -> Any:
        send, spoiler = self._real.stream_unary(method), self._spoiler

        def reply(frames: Iterable[bytes]) -> Any:
            frames = spoiler.garble(frames)
            if spoiler.now == "twice":
                with suppress(grpc.RpcError):
                    send(iter(frames))
            return send(iter(frames))

        return reply
