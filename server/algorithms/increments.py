"""Increments: each round trains a fresh low-rank increment beside a frozen global update, and sums exactly.

    Delta_t = sum_i p_i s_i B_i A_i        S_t = S_{t-1} + Delta_t        G_t = truncation of S_t (broadcast.py)

Clients compute W0 x + G x + s B (A x) with B = 0 at the start of the round. What the truncation leaves out stays in S
and returns when it grows: error feedback without a second state. Ranks may differ, and a late joiner needs no history.

The next A is `warm` (right-singular vectors of Delta_t, completed by fresh directions), `fresh` (orthonormal) or
`gaussian` (LoRA, arXiv 2106.09685, section 4.1). Mode `b` trains B alone under a common A, so that Delta is one plain
sum of B's (FFA-LoRA, arXiv 2403.12313; a new A each round as RAC-LoRA, arXiv 2410.08305). The right-singular vectors of
such a sum span what A spans, so a warm A would never leave its first span: after every `hold` rounds half of its rows
are fresh, beside the half in which the clients moved most. Parts of the idea: FLoRA (arXiv 2409.05976, exact stacking),
FLoRIST (arXiv 2506.09199, truncation of the stack on factors).

S itself is capped at rank_kept; what that drops is kept for one round, so that the aggregation error accounts for it.

State: `mass` S (float64), `global` G (float32, as sent), `next` A of the next round beside B = 0, `lost` what the cap
dropped in the last round (float64).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Array, Factors, Shapes, zeros
from common.errors import ConfigError
from common.protocol.assignment import Assignment, RankPattern
from common.seeding import rng
from common.settings.recipe import Server
from server.algorithms.base import (
    NOTHING,
    Algorithm,
    AlgorithmSettings,
    StoreModules,
    WeightedUpdate,
    store_in_memory,
)
from server.algorithms.broadcast import Broadcast
from server.algorithms.state import State

THREADS = 2
"""Modules that are reduced at once; NumPy releases the GIL while it computes, and memory holds this many."""


class Increments(Algorithm):
    """The default algorithm."""

    travels = "to a node G and the first r rows of the next A; back its trained B, in mode `both` with A"
    server_keeps = "S, its truncation G, and the next A"
    keys = frozenset({"hold", "rank_change"})
    takes_heads = True

    def __init__(self, settings: AlgorithmSettings) -> None:
        self.settings, self._hold = settings, _rounds_of_a_span(settings.server)
        self.rank_global = settings.server.rank_global or 4 * settings.max_rank
        self.rank_kept = settings.server.rank_kept or 4 * self.rank_global
        self._broadcast = Broadcast(settings, self.rank_global)

    def initial(self, shapes: Shapes, start: Adapter = NOTHING) -> State:
        """Make a state with S at the start; A is fresh, or Gaussian."""
        nothing, begun = zeros(shapes), self._broadcast.begin(shapes, start, self.rank_kept)
        first = {name: self._next(nothing[name], 1, name) for name in shapes}
        return State(0, {**begun, "next": Adapter(first)}, lowrank.total_norm(begun["lost"].values()))

    def assign(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        """Assign the first rows of the next A, as many as the node's rank, with B = 0, beside the global update."""
        start = Adapter(
            {name: factors.leading_part(ranks[name]).astype("f4") for name, factors in state.parts["next"].items()}
        )
        scaling = self.settings.lora.scaling(ranks.rank)
        return Assignment(state.parts["global"], start, self.settings.server.mode, scaling, self.settings.terms)

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Add the exact weighted sum to S, module by module, and truncate S to the next broadcast."""
        names = list(state.parts["mass"])
        rank = self._broadcast.rank_of_whole(state.parts["global"], state.round + 1)
        with ThreadPoolExecutor(THREADS) as pool:
            reduced = pool.map(lambda name: self._reduce(state, updates, name, rank), names)
            parts = keep(zip(names, reduced, strict=True))
        dropped = state.dropped + lowrank.total_norm(parts["lost"].values())
        return State(state.round + 1, parts, dropped)

    def _reduce(
        self, state: State, updates: Sequence[WeightedUpdate], name: str, rank: int | None
    ) -> Mapping[str, Factors]:
        """Return a module's factors in each part of the next state; `rank` is that of a new whole, if it is sent."""
        delta = self._sum(updates, name)
        total = lowrank.recompress(lowrank.stack([(1.0, state.parts["mass"][name]), (1.0, delta)]))
        kept = total.rank if self.settings.is_whole(name) else self.rank_kept
        mass = total.leading_part(kept)
        return {
            "mass": mass,
            "global": self._broadcast.next(mass, state.parts["global"][name], rank, state.round + 1, name),
            "next": self._next(delta, state.round + 2, name),
            "lost": total.trailing_part(kept),
        }

    def total_update(self, state: State) -> Adapter:
        """Return S, everything that clients have contributed."""
        return state.parts["mass"]

    def broadcast_update(self, state: State) -> Adapter:
        """Return G, the truncation of S that clients hold frozen."""
        return state.parts["global"]

    def dropped_update(self, state: State) -> Adapter:
        """Return what the cap on S dropped in the last round."""
        return state.parts["lost"]

    def with_head(self, state: State, head: Factors) -> State:
        """Return the state in which S and G have this update of the head's last projection."""
        return replace(state, parts={**state.parts, **self._broadcast.replaced(state, head)})

    def _sum(self, updates: Sequence[WeightedUpdate], name: str) -> Factors:
        terms = ((update.share, update.modules[name]) for update in updates)
        return _plain_sum(list(terms)) if self.settings.server.mode == "b" else lowrank.total(terms)

    def _next(self, delta: Factors, number: int, name: str) -> Factors:
        d, k = delta.shape
        rank = self.settings.rank_of(name, d, k, self.settings.max_rank)
        draws = rng(self.settings.seed, "a", number, name).standard_normal((rank, k))
        if self.settings.server.a == "gaussian":
            a = draws / np.sqrt(k)
        else:
            warm = self._warm_rows(rank, number)
            directions = lowrank.svd(delta)[2][:warm] if warm else np.zeros((0, k))
            a = _complete(directions, draws)
            if 0 < warm < rank:
                a = a[_fresh_and_warm(len(directions), rank)]
        start = Factors(a * self.settings.row_norm(name, k), np.zeros((d, rank)))
        return self.settings.rounded(start, "next", number, name)

    def _warm_rows(self, rank: int, number: int) -> int:
        """Return how many rows of the A of round `number` point where clients moved in the last one."""
        if self.settings.server.a != "warm":
            return 0
        return rank // 2 if self._hold and (number - 1) % self._hold == 0 else rank


def _rounds_of_a_span(server: Server) -> int | None:
    """Return after how many rounds a warm A leaves its span; None for an A that has to leave none.

    Raises:
        ConfigError: `hold` is set where A is trained, or new in every round.
    """
    if server.mode == "b" and server.a == "warm":
        return {"auto": 1, "never": None}[server.hold] if isinstance(server.hold, str) else server.hold
    if not isinstance(server.hold, str):
        why, instead = 'mode = "both" trains it', 'mode = "b"'
        if server.a != "warm":
            why, instead = f'a = "{server.a}" draws a new one in each round', 'a = "warm"'
        raise ConfigError(
            f"[server] hold = {server.hold} is for a warm A that is not trained, but {why}; "
            f"remove hold, or set {instead}"
        )
    return None


def _plain_sum(terms: Sequence[tuple[float, Factors]]) -> Factors:
    """Return (sum_i p_i [s_i B_i | 0]) A, where every A_i is the first rows of one common A."""
    longest = max((factors for _, factors in terms), key=lambda factors: factors.rank)
    b = lowrank.padded_sum(((share, factors.b) for share, factors in terms), longest.b.shape)
    return Factors(longest.a.astype("f8"), b)


def _complete(directions: Array, draws: Array) -> Array:
    """Complete the given orthonormal rows with random ones, to as many orthonormal rows as `draws` has."""
    missing = draws[len(directions) :]
    for _ in range(2):  # Twice, since one projection leaves rounding errors.
        missing = np.linalg.qr((missing - missing @ directions.T @ directions).T)[0].T
    return np.vstack([directions, missing])


def _fresh_and_warm(warm: int, rank: int) -> list[int]:
    """Return an order of `warm` rows and fresh ones after them in which they alternate, for nodes of any lower rank."""
    pairs = zip_longest(range(warm, rank), range(warm))
    return [row for pair in pairs for row in pair if row is not None]


def orthonormal_rows(draws: Array) -> Array:
    """Return as many orthonormal rows as `draws` (r, k) has, in the span of these."""
    return _complete(np.zeros((0, draws.shape[1])), draws)
