"""The exchange for ranks under a budget: each node sends one number of each module."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.heads.requests import ASKS
from common.planning.requests import MODULE_ENERGIES, EnergiesReply
from common.protocol.assignment import Training
from common.protocol.messages import FROZEN, RoundId
from common.protocol.payload import Payload
from server.links.ask import Nodes

T = TypeVar("T")


class Asks(Protocol):
    """Asks nodes a question: a `server.links.ask.Asker`, or what calls them in this process."""

    def ask(
        self, nodes: Nodes, round_id: RoundId, payload: Payload, read: Callable[[Payload], T], what: str
    ) -> Iterator[tuple[str, T]]:
        """Yield name and answer of each node whose reply counts."""
        ...


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


def ask_energies(asker: Asks, nodes: Nodes, asked: EnergyQuestion) -> Mapping[str, EnergiesReply]:
    """Return the valid reply of each node, by name in order of name."""
    values = {**asked.round_id.to_values(), **asked.training.to_values(), ASKS: MODULE_ENERGIES}
    payload = Payload(values, parts={FROZEN: encode_adapter(asked.update)})
    read = partial(EnergiesReply.from_reply, count=len(asked.modules))
    return dict(sorted(asker.ask(nodes, asked.round_id, payload, read, "ranks under a budget")))
