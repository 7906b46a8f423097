"""HetLoRA: zero-pad to the largest rank, average, give each client its first r_i (arXiv 2401.06432, section 3).

    p_i = ||dW_i|| / sum_j ||dW_j||       A = sum_i p_i [A_i; 0]       B = sum_i p_i [s_i B_i | 0]

Ranks may differ, but the average is inexact and a low-rank client's zeros shrink the high ranks; both show in the
receipt. The paper's self-pruning of ranks is left out. A column of B that nobody trained would pull its row of A to
zero, where neither ever learns again; such a pair stays as it was.

State: `global` (B, A) at the largest rank in float32, as sent.
"""

from collections.abc import Sequence

import numpy as np

from common import lowrank
from common.adapter import Adapter, Factors, Shapes
from common.assignment import Assignment
from server.algorithms.base import Settings, Weighted
from server.algorithms.fedit import gaussian_start
from server.state import State


class HetLoRA:
    """Sparsity-weighted averaging of zero-padded factors."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def initial(self, shapes: Shapes) -> State:
        """B = 0, A Gaussian, at the largest rank."""
        return State(0, {"global": gaussian_start(shapes, self.settings)})

    def assign(self, state: State, rank: int) -> Assignment:
        """The first `rank` directions of the average."""
        start = Adapter({name: factors.leading(rank) for name, factors in state.parts["global"].items()})
        return Assignment(Adapter(), start, "both", self.settings.lora.scaling(rank))

    def reduce(self, state: State, updates: Sequence[Weighted]) -> State:
        """Average the padded factors, weighted by the norm of each update."""
        shares = _shares(updates, list(state.parts["global"]))
        averaged = {name: _average(updates, shares, name, held) for name, held in state.parts["global"].items()}
        return State(state.round + 1, {"global": Adapter(averaged)})

    def mass(self, state: State) -> Adapter:
        """The averaged factors; there is nothing beside them."""
        return state.parts["global"]

    def broadcast(self, state: State) -> Adapter:
        """The averaged factors at the largest rank."""
        return state.parts["global"]

    def lost(self, state: State) -> Adapter:
        """Nothing: there is no cap."""
        return Adapter()


def _shares(updates: Sequence[Weighted], names: Sequence[str]) -> list[float]:
    norms = [lowrank.total_norm(u.modules[name] for name in names) for u in updates]
    return [norm / sum(norms) if sum(norms) else update.share for norm, update in zip(norms, updates, strict=True)]


def _average(updates: Sequence[Weighted], shares: Sequence[float], name: str, held: Factors) -> Factors:
    a, b = np.zeros(held.a.shape), np.zeros(held.b.shape)
    trained = max(update.modules[name].rank for update in updates)
    for share, update in zip(shares, updates, strict=True):
        factors = update.modules[name].astype("f8")
        a[: factors.rank] += share * factors.a
        b[:, : factors.rank] += share * factors.b
    a[trained:], b[:, trained:] = held.a[trained:], held.b[:, trained:]
    return Factors(a.astype("f4"), b.astype("f4"))
