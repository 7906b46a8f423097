"""The clients of a trial: each answers an assignment with the bytes that it would send, and traffic is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from client.exchange import Exchange, answer_exchange
from client.node import LocalNode, attach_lora
from client.questions.closed_form_head import class_sums, head_losses
from client.training.progress import ignore
from client.training.train import train
from common.adapters.adapter import Adapter, Array
from common.adapters.codec import encode_adapter
from common.adapters.link_codecs import Held, codec_named
from common.heads.class_sums import pack_sums
from common.heads.requests import pack_heads, unpack_heads
from common.protocol.assignment import Assignment, CountedReply, Training
from common.protocol.messages import RoundId, pack_assignment, pack_rounded, pack_shared, pack_terms
from common.protocol.payload import Payload
from common.protocol.replies import TrainReply
from common.settings.recipe import Server
from server.heads.exchange import NodeSums
from server.links.ask import Nodes


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
        server: link codec and wire, as [server] has them.
        gram: heads in closed form need the Gram matrix.
    """

    nodes: Mapping[str, LocalNode]
    folder: Path
    server: Server
    gram: bool = False
    traffic: Traffic = field(default_factory=Traffic)
    _held: dict[str, tuple[Held, ...]] = field(default_factory=dict)

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
            blob = pack_rounded(update, assignment, training.stream_key(name))
        self.traffic.up += len(blob)
        self.traffic.rows += int(values["examples"])
        return Payload(values, blob)

    def sums(self, nodes: Nodes, round_id: RoundId, update: Adapter) -> dict[str, NodeSums]:
        """Return what each client sends for a head in closed form under this global update, by name."""
        return {name: self._sums(self.nodes[name], update) for name in nodes.values()}

    def losses(
        self, nodes: Nodes, round_id: RoundId, update: Adapter, heads: Sequence[Array], temperatures: Sequence[float]
    ) -> tuple[Array, int]:
        """Return the losses of each head at each temperature, summed over all clients, and the number of rows."""
        total, rows, buffer = np.zeros(len(heads) * len(temperatures)), 0, pack_heads(heads)
        for node in (self.nodes[name] for name in nodes.values()):
            self.traffic.down += len(buffer)
            attached = attach_lora(node.base, tuple(update))
            total += head_losses(*attached, update, node.held, unpack_heads(buffer), temperatures)
            rows += len(node.held)
        return total.reshape(len(heads), len(temperatures)), rows

    def _sums(self, node: LocalNode, update: Adapter) -> NodeSums:
        attached, classes = attach_lora(node.base, tuple(update)), len(node.settings.data.labels)
        sums, left_out = class_sums(*attached, update, node.train, classes, self.gram)
        self.traffic.up += len(pack_sums(sums))
        return NodeSums(sums, left_out, "")

    def _send(self, name: str, assignment: Assignment) -> None:
        frozen = [encode_adapter(assignment.frozen)] if assignment.frozen else []
        parts = [*frozen, *pack_shared(assignment).values(), *pack_terms(assignment).values()]
        codec, held = codec_named(self.server.codec), self._held.get(name, ())
        sent = [codec.encode(part, sha256(part).hexdigest(), held, self.server.wire) for part in parts]
        self.traffic.down += len(pack_assignment(assignment)) + sum(map(len, sent))
        self._held[name] = tuple(Held.of(part, sha256(part).hexdigest()) for part in parts)
