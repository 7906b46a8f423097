"""FedIT: average A and B separately (arXiv 2305.05644, section 3.2).

    A = sum_i p_i A_i        B = sum_i p_i s_i B_i

The mean of products is not the product of means: the error is sum_i p_i (B_i - B)(A_i - A), and it shows in the
aggregation error. It is a baseline, for clients of one rank.
"""

from collections.abc import Sequence

from common.adapters.adapter import Adapter, Factors
from common.adapters.lowrank import padded_sum
from common.errors import ConfigError
from common.protocol.assignment import Assignment, RankPattern
from server.algorithms.averaged import FactorAveraging
from server.algorithms.base import AlgorithmSettings, StoreModules, WeightedUpdate, store_in_memory
from server.algorithms.state import State


class FedIT(FactorAveraging):
    """Federated averaging of the factors."""

    one_rank = True

    def __init__(self, settings: AlgorithmSettings) -> None:
        if len(set(settings.ranks)) > 1:
            ranks = sorted(set(settings.ranks))
            raise ConfigError(f'fedit needs one rank, got [clients] ranks {ranks}; use "increments" or "hetlora"')
        super().__init__(settings)

    def assign(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        """Start from the averaged factors."""
        scaling = self.settings.lora.scaling(ranks.rank)
        return Assignment(Adapter(), state.parts["global"], "both", scaling, self.settings.terms)

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Average each factor."""
        number, held = state.round + 1, state.parts["global"]
        means = ((name, _average(updates, name, factors)) for name, factors in held.items())
        rounded = self.settings.rounded
        return State(number, keep((name, {"global": rounded(mean, "global", number, name)}) for name, mean in means))


def _average(updates: Sequence[WeightedUpdate], name: str, held: Factors) -> Factors:
    a = padded_sum(((update.share, update.modules[name].a) for update in updates), held.a.shape)
    b = padded_sum(((update.share, update.modules[name].b) for update in updates), held.b.shape)
    return Factors(a, b)
