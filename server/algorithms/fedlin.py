"""FedLin under a common A: local steps corrected by the gradients of all clients (arXiv 2102.07053, algorithm 1).

    phase 1   g_i = the mean gradient of f_i by B, at B = 0        c = sum_i p_i [g_i | 0]
    phase 2   local steps with gradient + c - g_i                  Delta = (sum_i p_i [s_i B_i | 0]) A

It is `increments` in mode "b" with one exchange before: gradients of one factor under a common A add up exactly,
whatever the ranks, so each client steps along the gradient of the whole cohort and not of its own labels alone. A
client keeps nothing between the phases: the server sends it c - g_i. The local optimizer is AdamW, as for any rule, not
the paper's SGD.

The shares of phase 1 follow the run's weighting rule over the gradients; those of phase 2 are recorded and signed. A
node that leaves between the two is in c and not in the sum. A gradient has no bound from its order, only from the
other replies (server/clipping/norm_bound.py); that of a node alone has none.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.lowrank import padded_sum
from common.errors import ConfigError
from common.protocol.assignment import Assignment, RankPattern, Term
from server.algorithms.base import AlgorithmSettings, Phase, Phases, StoreModules, store_in_memory
from server.algorithms.increments import Increments
from server.algorithms.state import State


class FedLin(Increments):
    """Increments of B with the gradient of the cohort as control variate."""

    travels = "two exchanges: G and A, back the gradient by B; then the correction of the node, back its trained B"
    phases = 2
    asks_gradients = "gradient"

    def __init__(self, settings: AlgorithmSettings) -> None:
        if settings.server.mode != "b":
            raise ConfigError(
                f'fedlin trains B under a common A, but [server] mode = "{settings.server.mode}"; set mode = "b"'
            )
        super().__init__(settings)

    def round(self, state: State, keep: StoreModules = store_in_memory) -> Phases:
        """Exchange gradients at the start, then updates of steps that they correct."""
        gradients = yield Phase(partial(self._probe, state))
        own = {update.name: update.modules for update in gradients}
        mean = {
            name: padded_sum(((u.share, u.modules[name].b) for u in gradients), next_a.b.shape)
            for name, next_a in state.parts["next"].items()
        }
        updates = yield Phase(lambda node, ranks: self._correct(self.assign(state, node, ranks), own[node], mean))
        return self.reduce(state, updates, keep)

    def _probe(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        return replace(self.assign(state, node, ranks), terms=(), returns="gradient")

    def _correct(self, plain: Assignment, own: Mapping[str, Factors], mean: Mapping[str, Array]) -> Assignment:
        shift = {n: Factors(f.a, mean[n][:, : f.rank] - own[n].b) for n, f in plain.start.items()}
        term = Term("control-variate", adapter=Adapter(shift).astype("f4"))
        return replace(plain, terms=(*plain.terms, term))
