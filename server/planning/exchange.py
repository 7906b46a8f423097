"""The exchange for ranks under a budget: each node sends one number of each module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.heads.requests import ASKS
from common.planning.requests import MODULE_ENERGIES, EnergiesReply
from common.protocol.assignment import Training
from common.protocol.messages import FROZEN, RoundId
from common.protocol.payload import Payload
from server.links.ask import Asker, Nodes


@dataclass(frozen=True)
class EnergyQuestion:
    """What nodes are asked.

    Args:
        round_id: of the question.
        update: the global update, under which gradients are computed.
        training: batches, and the rate of a new head.
        modules: whose energies are asked for, in order of name.
    """

    round_id: RoundId
    update: Adapter
    training: Training
    modules: Sequence[str]


def ask_energies(asker: Asker, nodes: Nodes, asked: EnergyQuestion) -> Mapping[str, EnergiesReply]:
    """Return the valid reply of each node, by name in order of name."""
    values = {**asked.round_id.to_values(), **asked.training.to_values(), ASKS: MODULE_ENERGIES}
    payload = Payload(values, parts={FROZEN: encode_adapter(asked.update)})
    read = partial(EnergiesReply.from_reply, count=len(asked.modules))
    return dict(sorted(asker.ask(nodes, asked.round_id, payload, read, "ranks under a budget")))
