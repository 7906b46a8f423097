"""HetLoRA: zero-pad to the largest rank, average, give each client its first r_i (arXiv 2401.06432, section 3).

    p_i = ||dW_i|| / sum_j ||dW_j||       A = sum_i p_i [A_i; 0]       B = sum_i p_i [s_i B_i | 0]

Ranks may differ, but the average is inexact and a low-rank client's zeros shrink the high ranks; both show in the
aggregation error. The paper's self-pruning of ranks is left out. A column of B that nobody trained would pull its row
of A to zero, where neither ever learns again; such a pair is left unchanged. Shares are capped as in
server/algorithms/weighting.py, or a node could make its own as large as it likes.
"""

from collections.abc import Sequence

import numpy as np

from common.adapters.adapter import Adapter, Factors
from common.adapters.lowrank import padded_sum
from common.protocol.assignment import Assignment, RankPattern
from server.algorithms.averaged import FactorAveraging
from server.algorithms.base import StoreModules, WeightedUpdate, store_in_memory
from server.algorithms.state import State


class HetLoRA(FactorAveraging):
    """Sparsity-weighted averaging of zero-padded factors."""

    weights = "norm"

    def assign(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        """Assign the first directions of the average, as many as the node's rank."""
        start = Adapter({name: factors.leading_part(ranks[name]) for name, factors in state.parts["global"].items()})
        return Assignment(Adapter(), start, "both", self.settings.lora.scaling(ranks.rank), self.settings.terms)

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Average the padded factors."""
        number, held = state.round + 1, state.parts["global"]
        means = ((name, _average(updates, name, factors)) for name, factors in held.items())
        rounded = self.settings.rounded
        return State(number, keep((name, {"global": rounded(mean, "global", number, name)}) for name, mean in means))


def _average(updates: Sequence[WeightedUpdate], name: str, held: Factors) -> Factors:
    counted = [update for update in updates if update.share]
    trained = max(update.modules[name].rank for update in counted)
    a = padded_sum(((u.share, u.modules[name].a.T) for u in counted), (held.shape[1], trained)).T
    b = padded_sum(((u.share, u.modules[name].b) for u in counted), (held.shape[0], trained))
    untrained = held.trailing_part(trained).astype("f8")
    return Factors(np.vstack([a, untrained.a]), np.hstack([b, untrained.b]))
