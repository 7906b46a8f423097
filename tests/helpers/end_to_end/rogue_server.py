"""A server with its project's own keys and roster, over mutual TLS, that tells and asks what a test says."""

from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

from common.adapters.adapter import Shapes
from common.adapters.codec import encode_adapter
from common.identity.credentials import load_server_credentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt, Return
from common.protocol.announcement import Announcement
from common.protocol.assignment import Assignment, Training
from common.protocol.messages import FROZEN, RoundId, assignment_values, pack_assignment
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice
from server.rounds.log_line import adapter_hash
from server.transport.authorization import RosterGuard
from server.transport.flower_messenger import FlowerMessenger
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.quota import NodeQuota
from tests.helpers.common.models import random_adapter
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import SHAPES

RUN = "ab" * 32
TRAINING = Training(learning_rates=(1e-2,) * 2, batch=4)


class RogueServer:
    """One start of a server at the project's port, for one node; the adapter of a round is random, by its number.

    Args:
        project: has the keys, and the port.
        told: the rounds that a node is told when it connects.
    """

    def __init__(self, project: NumpyProject, *told: RoundNotice) -> None:
        self._own = load_server_credentials(project.folder / "keys")
        roster = RosterGuard(project.folder / "keys", self._own.roster, self._own.roster_bytes, "examples")
        greeting = [Payload({}, roster.signed_roster), *(Payload(each.to_values()) for each in told)]
        guard = NodeGuard(
            roster.authorize_node, roster.authorize_reply, lambda name: greeting, NodeQuota(), ("by-hash",)
        )
        self.shapes: Shapes = SHAPES
        self.base = "base"
        self.grid = GrpcGrid(f"localhost:{project.port}", self._own, guard, project.folder)
        self._messenger = FlowerMessenger(self.grid, 60)

    def __enter__(self) -> Self:
        until(self.grid.names, seconds=60)
        return self

    def __exit__(self, *failure: object) -> None:
        self.grid.close(finished=False)

    def learn(self) -> None:
        """Ask the node for the shapes and the fingerprint of its base."""
        found = self.announced()
        self.shapes, self.base = found.model.shapes, found.model.fingerprint

    def announced(self) -> Announcement:
        """Return what the node announces; it answers in order, so it has heard all that was told before."""
        return Announcement.from_values(self._ask("query", Payload({"targets": "query-value"})).values)

    @cached_property
    def _start(self) -> Assignment:
        return Assignment(random_adapter(self.shapes, (2,), 99), random_adapter(self.shapes, (2,), 98), "both", 0.5)

    def adapter(self, number: int) -> bytes:
        """Return the buffer of the adapter of a round."""
        return encode_adapter(random_adapter(self.shapes, (2,), number))

    def hash(self, number: int) -> str:
        """Return the hash of the adapter of a round."""
        return adapter_hash(random_adapter(self.shapes, (2,), number))

    def line(self, number: int, **changes: object) -> RoundNotice:
        """Return the notice of a round, with these values changed."""
        parent = self.hash(number - 1) if number else ""
        line = RoundNotice(run=RUN, round=number, parent=parent, adapter=self.hash(number), updates=[])
        return replace(line, **changes)  # type: ignore[arg-type]

    def receipt(self, number: int, update: str, **changes: object) -> RoundNotice:
        """Return the notice of a round in which the node's update of this hash counts, with its signed receipt."""
        line = self.line(number, updates=[update], weight=0.25, **changes)
        (name,) = self.grid.names()
        receipt = Receipt(
            project="demo",
            run=RUN,
            round=number,
            node=name,
            blob_hash=update,
            weight=line.weight,
            adapter_hash=line.adapter,
            clip=line.clip,
        )
        return replace(line, signature=signatures.sign(receipt, self._own.receipt_key).hex())

    def signed_return(self, number: int, adapter: int | None = None) -> str:
        """Return the server's statement that the run went back to the end of a round."""
        adapter_hash = self.hash(number if adapter is None else adapter)
        back = Return(project="demo", run=RUN, round=number, adapter_hash=adapter_hash)
        return signatures.sign(back, self._own.receipt_key).hex()

    def tell(self, *lines: RoundNotice) -> None:
        """Tell the node of rounds, and return when it has heard."""
        for name in self.grid.names():
            for line in lines:
                self.grid.notify(name, Payload(line.to_values()))
        self.announced()

    def train(
        self, number: int, parent: int | None = None, sent: bytes | None = None, kind: str = "train", **changes: object
    ) -> str:
        """Ask for an update of a round; return the reason word, or `trained`.

        Args:
            number: of the round.
            parent: the round whose adapter is named as the parent; the one before by default.
            sent: the frozen factors; the parent by default.
            kind: of the message.
            changes: other values of the round id.
        """
        before = number - 1 if parent is None else parent
        order = replace(RoundId(RUN, number, self.hash(before), self.base), **changes)  # type: ignore[arg-type]
        training = replace(TRAINING, round=number, phase=order.phase)
        values = order.to_values() | assignment_values(self._start, training) | {"cohort": 3, "phases": 2}
        frozen = self.adapter(before) if sent is None else sent
        payload = Payload(values | {"codec": "by-hash"}, pack_assignment(self._start), {FROZEN: frozen})
        return self._word(kind, payload, "trained")

    def evaluate(self, number: int, adapter: int | None = None, sent: bytes | None = None) -> str:
        """Ask for a loss of a round's adapter; return the reason word, or `measured`."""
        named = number if adapter is None else adapter
        values = RoundId(RUN, number, self.hash(named), self.base).to_values() | {"codec": "by-hash"}
        return self._word("evaluate", Payload(values, parts={FROZEN: sent or self.adapter(named)}), "measured")

    def _word(self, kind: str, payload: Payload, done: str) -> str:
        reply = self._ask(kind, payload)
        return done if isinstance(reply, Payload) else str(reply)

    def _ask(self, kind: str, payload: Payload) -> Any:
        (node,) = self.grid.get_node_ids()
        ((_, reply),) = self._messenger.request(kind, {node: payload}, 1)  # type: ignore[arg-type]
        return reply


def by_hash(buffer: bytes) -> bytes:
    """Return what stands for a buffer that the node holds."""
    return b"#" + sha256(buffer).hexdigest().encode()
