"""The clients of a trial: each answers an assignment with the bytes that it would send, and traffic is counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from client.exchange import Exchange, answer_exchange
from client.node import LocalNode, attach_lora
from client.training.progress import ignore
from client.training.train import train
from common.adapters.codec import encode_adapter
from common.adapters.link_codecs import codec_named
from common.protocol.assignment import Assignment, CountedReply, Training
from common.protocol.messages import RoundId, pack_assignment, pack_terms, pack_update
from common.protocol.payload import Payload
from common.protocol.replies import TrainReply


@dataclass
class Traffic:
    """Bytes of factors to and from all clients, and the rows that they read."""

    down: int = 0
    up: int = 0
    rows: int = 0


@dataclass
class Clients:
    """All clients of a trial, in this process.

    Args:
        nodes: by name.
        folder: for what they remember between exchanges.
        codec: of the links to them, as [server] codec.
    """

    nodes: Mapping[str, LocalNode]
    folder: Path
    codec: str
    traffic: Traffic = field(default_factory=Traffic)
    _held: dict[str, set[str]] = field(default_factory=dict)

    def answer(
        self, name: str, round_id: RoundId, assignment: Assignment, training: Training, counted: CountedReply
    ) -> Payload:
        """Return the reply of a client, which computes it as in any simulation."""
        self._send(name, assignment)
        node = self.nodes[name]
        attached = attach_lora(node.base, tuple(assignment.start))
        if assignment.returns == "compressed-gradient":
            asked = Exchange(round_id, assignment, training, counted)
            values, blob = answer_exchange(self.folder / f"{name}.toml", node, asked, *attached, ignore)
        else:
            (update,) = train(*attached, [assignment], [name], [node.train], training)
            own = round_id.to_values()
            values = TrainReply(**own, examples=update.examples, tokens=update.tokens, loss=update.loss).to_values()
            blob = pack_update(update, assignment.trains)
        self.traffic.up += len(blob)
        self.traffic.rows += int(values["examples"])
        return Payload(values, blob)

    def _send(self, name: str, assignment: Assignment) -> None:
        frozen = [encode_adapter(assignment.frozen)] if assignment.frozen else []
        held, codec = self._held.setdefault(name, set()), codec_named(self.codec)
        for buffer in (*frozen, pack_assignment(assignment), *pack_terms(assignment).values()):
            digest = sha256(buffer).hexdigest()
            self.traffic.down += len(codec.encode(buffer, digest, held))
            held.add(digest)
