"""Makes the plan of a run that has a budget, once enough nodes are ready."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from common.adapters.adapter import Adapter, Shapes
from common.huggingface.model_description import ModelDescription
from common.planning.requests import planning_batches
from common.protocol.assignment import Training
from common.protocol.messages import RoundId
from server.links.ask import Nodes
from server.planning.exchange import Asks, EnergyQuestion, ask_energies
from server.planning.plan import Plan


def planned_shapes(model: ModelDescription) -> Shapes:
    """Return (d, k) of the modules that a budget is for, all but a new head, in order of name."""
    return {name: model.shapes[name] for name in sorted(model.shapes.keys() - {each.name for each in model.head})}


@dataclass(frozen=True)
class Planner:
    """Makes plans of a run.

    Args:
        budget: as in [lora] budget.
        largest: rank that no module exceeds.
        quorum: fewest nodes behind a plan.
        training: settings of round 1.
        rate: learning rate of a new head, which energies need.
    """

    budget: str | int
    largest: int
    quorum: int
    training: Training
    rate: float

    def within(self, ranks: Iterable[int]) -> Self:
        """Return the planner of a run whose nodes have these ranks: no module exceeds the largest."""
        return replace(self, largest=min(self.largest, max(ranks, default=self.largest)))

    def plan(
        self, asker: Asks, nodes: Nodes, round_id: RoundId, update: Adapter, model: ModelDescription
    ) -> Plan | None:
        """Return the ranks that the nodes' energies give; None if fewer than the quorum sent them.

        Args:
            asker: asks the nodes.
            nodes: to ask.
            round_id: of the question.
            update: at which the run begins.
            model: its modules, of which a new head is left out.

        Raises:
            ConfigError: the budget is too small, or no module has a gradient.
        """
        shapes = planned_shapes(model)
        asked = EnergyQuestion(round_id, update, planning_batches(self.training, self.rate), list(shapes))
        replies = ask_energies(asker, nodes, asked)
        if len(replies) < self.quorum:
            return None
        return Plan.of(replies, shapes, self.largest, self.budget)
