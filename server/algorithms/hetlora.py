"""HetLoRA: zero-pad to the largest rank, average, give each client its first r_i (arXiv 2401.06432, section 3).

    p_i = ||dW_i|| / sum_j ||dW_j||       A = sum_i p_i [A_i; 0]       B = sum_i p_i [s_i B_i | 0]

Ranks may differ, but the average is inexact and a low-rank client's zeros shrink the high ranks; both show in the
aggregation error. The paper's self-pruning of ranks is left out. A column of B that nobody trained would pull its row
of A to zero, where neither ever learns again; such a pair is left unchanged.
"""

from collections.abc import Sequence

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment
from server.algorithms.averaged import FactorAveraging
from server.algorithms.base import StoreModules, WeightedUpdate, store_in_memory
from server.algorithms.state import State


class HetLoRA(FactorAveraging):
    """Sparsity-weighted averaging of zero-padded factors."""

    def assign(self, state: State, rank: int) -> Assignment:
        """Assign the first `rank` directions of the average."""
        start = Adapter({name: factors.leading_part(rank) for name, factors in state.parts["global"].items()})
        return Assignment(Adapter(), start, "both", self.settings.lora.scaling(rank))

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Average the padded factors, weighted by the norm of each update."""
        shares = _shares(updates, list(state.parts["global"]))
        averaged = ((n, {"global": _average(updates, shares, n, held)}) for n, held in state.parts["global"].items())
        return State(state.round + 1, keep(averaged))


def _shares(updates: Sequence[WeightedUpdate], names: Sequence[str]) -> list[float]:
    norms = [lowrank.total_norm(u.modules[name] for name in names) for u in updates]
    return [norm / sum(norms) if sum(norms) else update.share for norm, update in zip(norms, updates, strict=True)]


def _average(updates: Sequence[WeightedUpdate], shares: Sequence[float], name: str, held: Factors) -> Factors:
    a, b = np.zeros(held.a.shape), np.zeros(held.b.shape)
    trained = max(update.modules[name].rank for share, update in zip(shares, updates, strict=True) if share)
    for share, update in zip(shares, updates, strict=True):
        factors = update.modules[name].astype("f8")
        a[: factors.rank] += share * factors.a
        b[:, : factors.rank] += share * factors.b
    a[trained:], b[:, trained:] = held.a[trained:], held.b[:, trained:]
    return Factors(a.astype("f4"), b.astype("f4"))
