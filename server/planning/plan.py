"""A plan: the rank of each module under a budget, and the sums that it is made of, as the log keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from statistics import median_low
from typing import Any, Self

from common.adapters.adapter import Shapes
from common.planning.budget import budget_parameters
from common.planning.ranks import assign_ranks, trained_parameters
from common.planning.requests import EnergiesReply


@dataclass(frozen=True)
class Plan:
    """Ranks of a run's modules.

    Args:
        budget: most parameters.
        largest: rank that no module exceeds.
        energies: of each module, summed over the nodes.
        ranks: of each module; 0 for those that are not trained.
        nodes: whose energies are in the sums.
        parameters: of A and B at these ranks.
    """

    budget: int
    largest: int
    energies: Mapping[str, float]
    ranks: Mapping[str, int]
    nodes: Sequence[str]
    parameters: int

    @classmethod
    def of(cls, replies: Mapping[str, EnergiesReply], shapes: Shapes, largest: int, budget: str | int) -> Self:
        """Make a plan.

        Args:
            replies: of the nodes, by name.
            shapes: (d, k) of the modules that may be adapted.
            largest: rank that no module exceeds.
            budget: as in [lora] budget; a percentage is of the base's parameters as the median node counts them.

        Raises:
            ConfigError: the budget is too small, or no module has a gradient.
        """
        parameters = budget_parameters(budget, median_low(reply.parameters for reply in replies.values()))
        columns = zip(*(replies[name].energies for name in sorted(replies)), strict=True)
        energies = dict(zip(sorted(shapes), map(fsum, columns), strict=True))
        ranks = assign_ranks(energies, shapes, largest, parameters)
        return cls(parameters, largest, energies, ranks, sorted(replies), trained_parameters(ranks, shapes))

    def to_record(self) -> dict[str, Any]:
        """Return what the log keeps of it."""
        return asdict(self)

    def told(self) -> dict[str, Any]:
        """Return what metrics.jsonl says of it: budget and parameters, and the rank of each module."""
        return {"budget": self.budget, "parameters": self.parameters, "ranks": dict(self.ranks)}


def is_consistent(record: Mapping[str, Any], shapes: Shapes) -> bool:
    """Return whether a record's ranks are those that its sums give."""
    own = {name: shapes[name] for name in record["energies"]}
    return bool(assign_ranks(record["energies"], own, record["largest"], record["budget"]) == record["ranks"])
