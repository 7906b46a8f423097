"""Common base of rules that average A and B separately: their whole state is one pair of factors per module.

State: `global` (B, A) at the largest rank in float32, as the wire holds it.
"""

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors, Shapes
from common.errors import ConfigError
from common.seeding import rng
from server.algorithms.base import NOTHING, Algorithm, AlgorithmSettings
from server.algorithms.state import State

TOLERANCE = 1e-6
"""Largest share of an adapter that may be left out where a run begins at it."""


class FactorAveraging(Algorithm):
    """The state of an averaging rule; `assign` and `reduce` are each rule's own."""

    travels = "to a node the averaged factors at its rank; back the trained ones"
    server_keeps = "the averaged factors"
    averages_apart = True

    def __init__(self, settings: AlgorithmSettings) -> None:
        self.settings = settings

    def initial(self, shapes: Shapes, start: Adapter = NOTHING) -> State:
        """Make B = 0 and A Gaussian at the largest rank (arXiv 2106.09685, section 4.1).

        The first rows and columns are a start's, balanced, of its own rank.

        Raises:
            ConfigError: the factors cannot hold the start.
        """
        begun = Adapter({name: self._start(name, *shape, start.get(name)) for name, shape in shapes.items()})
        self._check_start(begun, start)
        return State(0, {"global": begun})

    def total_update(self, state: State) -> Adapter:
        """Return the averaged factors; there is nothing else."""
        return state.parts["global"]

    def broadcast_update(self, state: State) -> Adapter:
        """Return the averaged factors."""
        return state.parts["global"]

    def dropped_update(self, state: State) -> Adapter:
        """Return an empty adapter: there is no cap."""
        return Adapter()

    def _check_start(self, begun: Adapter, start: Adapter) -> None:
        missed = lowrank.total_norm(_difference(begun[name], factors) for name, factors in start.items())
        share = missed / (lowrank.total_norm(start.values()) or 1.0)
        if share > TOLERANCE:
            rule, rank = self.settings.server, self.settings.max_rank
            raise ConfigError(
                f'[base] adapter has rank {start.rank}, but algorithm = "{rule.algorithm}" holds only factors of rank '
                f'{rank} with the numbers of wire = "{rule.wire}", which leave out {share:.1g} of it; set algorithm = '
                f'"increments" or "fedsgd", whose sum holds any adapter, or raise the largest rank of a node'
            )

    def _start(self, name: str, d: int, k: int, at: Factors | None) -> Factors:
        rank = self.settings.rank_of(name, d, k, self.settings.max_rank)
        draws = rng(self.settings.seed, "a", 1, name).standard_normal((rank, k))
        a = draws * self.settings.row_norm(name, k) / np.sqrt(k)
        b = np.zeros((d, rank))
        if at is not None:
            held = lowrank.truncate(at, rank)
            a[: held.rank], b[:, : held.rank] = held.a, held.b
        return self.settings.rounded(Factors(a, b), "global", 0, name)


def _difference(one: Factors, other: Factors) -> Factors:
    return lowrank.stack([(1.0, one), (-1.0, other)])
