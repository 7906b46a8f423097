"""One exchange of gradients: what the node had not sent is recalled, and kept anew before the reply leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from client.memory.error_memory import ErrorMemory, Reply
from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.node import LocalNode
from client.training.gradient_exchange import exchange_gradient
from client.training.passes import Passes
from client.training.progress import Watch
from common.protocol.assignment import Assignment, CountedReply, Training
from common.protocol.messages import RoundId, pack_gradient, reply_form
from common.protocol.replies import TrainReply


@dataclass(frozen=True)
class Exchange:
    """A request for a compressed gradient; `counted` names the last reply of this node that the server counted."""

    round_id: RoundId
    assignment: Assignment
    training: Training
    counted: CountedReply


def answer_exchange(
    file: Path, node: LocalNode, asked: Exchange, base: BaseModel, lora: Lora, watch: Watch
) -> tuple[Mapping[str, Any], bytes]:
    """Return values and factors of the reply.

    Args:
        file: settings file of the node, beside which its memory is.
        node: its rows.
        asked: the request.
        base: the node's model.
        lora: adapters attached to it.
        watch: called as steps are done.
    """
    name, round_id = node.settings.name, asked.round_id
    memory = ErrorMemory(file, name, round_id.run)
    start = memory.recall(asked.counted, reply_form(asked.assignment).shapes)
    passes = Passes(base, lora, asked.assignment, name, node.train, asked.training, start.scale, watch)
    found = exchange_gradient(passes, start.unsent)
    blob = pack_gradient(found.gradient, asked.assignment.wire)
    memory.keep(asked.counted, start, Reply(round_id.round, sha256(blob).hexdigest(), found.gradient, found.memory))
    reply = TrainReply(
        **round_id.to_values(), examples=found.examples, tokens=found.tokens, loss=found.loss, noise=found.noise
    )
    return reply.to_values(), blob
