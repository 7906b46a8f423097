"""Common base of rules that average A and B separately: their whole state is one pair of factors per module.

State: `global` (B, A) at the largest rank in float32, as sent.
"""

import numpy as np

from common.adapters.adapter import Adapter, Factors, Shapes
from common.seeding import rng
from server.algorithms.base import Algorithm, AlgorithmSettings
from server.algorithms.state import State


class FactorAveraging(Algorithm):
    """The state of an averaging rule; `assign` and `reduce` are each rule's own."""

    travels = "to a node the averaged factors at its rank; back the trained ones"
    server_keeps = "the averaged factors"
    averages_apart = True

    def __init__(self, settings: AlgorithmSettings) -> None:
        self.settings = settings

    def initial(self, shapes: Shapes) -> State:
        """Make B = 0 and A Gaussian at the largest rank (arXiv 2106.09685, section 4.1)."""
        return State(0, {"global": Adapter({name: self._start(name, *shape) for name, shape in shapes.items()})})

    def total_update(self, state: State) -> Adapter:
        """Return the averaged factors; there is nothing else."""
        return state.parts["global"]

    def broadcast_update(self, state: State) -> Adapter:
        """Return the averaged factors."""
        return state.parts["global"]

    def dropped_update(self, state: State) -> Adapter:
        """Return an empty adapter: there is no cap."""
        return Adapter()

    def _start(self, name: str, d: int, k: int) -> Factors:
        rank = min(self.settings.max_rank, d, k)
        draws = rng(self.settings.seed, "a", 1, name).standard_normal((rank, k))
        a = draws * self.settings.row_norm(name, k) / np.sqrt(k)
        return Factors(a.astype("f4"), np.zeros((d, rank), "f4"))
