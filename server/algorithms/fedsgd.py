"""FedSGD: nodes send gradients of shared factors, which add up exactly; the server takes the optimizer's step.

    g = sum_i p_i g_i        (A, B) <- one step of Adam or SGD along g        y = W0 x + G x + s B (A x)

With A and B in common, the gradient of the whole objective is the sum of the nodes' gradients, whatever their labels
are, so one exchange is one step of pooled training on the union of their rows (arXiv 1602.05629, section 2; the
optimizer at the server as FedOpt, arXiv 2003.00295). Under label skew locally trained factors cancel; gradients do not.

Every node computes the gradient of all R = rank_shared columns. One of rank r sends its best approximation of rank r,
and adds what that leaves out to its next one: error feedback (arXiv 1905.13727), which loses nothing over the rounds.
A node has no optimizer and never clips: [train] clip bounds the sum.

The mean over all cohorts of a size is everybody's sum if weights are equal. With unequal ones the shares of a cohort,
which add up to 1, favour small nodes: of 5 nodes with 1 to 16 rows, in cohorts of 2, the smallest weighs 2.2 times its
share of all rows.

With [server] hold = H, B A is folded into the frozen G after every H rounds, and A is drawn anew, so that the update
leaves the span of its first R directions. The moments of Adam belong to one A, and start anew with a warm-up.

State: `mass` S, what was folded (float64); `global` G, its truncation to rank_global as sent (float32); `shared`
(A, s B) (float64); `first` and `second`, the moments; `gradient` g of the last round, by A and by s B; `lost` what a
cap on S dropped at the last fold. `State.step` counts the steps of these moments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Array, Factors, Shapes
from common.adapters.gradient import gradient_of
from common.adapters.joined import ReplacedModule, stack_adapters
from common.errors import ConfigError
from common.protocol.assignment import Assignment, RankPattern
from common.seeding import rng
from server.algorithms.base import (
    NOTHING,
    Algorithm,
    AlgorithmSettings,
    Phase,
    Phases,
    StoreModules,
    WeightedUpdate,
    store_in_memory,
)
from server.algorithms.broadcast import Broadcast
from server.algorithms.increments import orthonormal_rows
from server.algorithms.optimizer import Optimizer, clip_factor, scheduled_rate
from server.algorithms.state import State

BETAS = (0.9, 0.99)
"""Of Adam. The second is below the usual 0.999, since a run has tens or hundreds of steps."""


class FedSGD(Algorithm):
    """Exact sums of gradients of shared factors, and the optimizer at the server."""

    travels = "to a node G and the shared A and B; back the gradient by B, or by both, compressed to its rank"
    node_keeps = "what it has not sent of its gradients since A was drawn, in NODE.state beside its file"
    server_keeps = "S, its truncation G, the shared A and B, the optimizer's moments and step"
    default_weights = "rows"
    keys = frozenset({"rank_change", "rank_shared", "optimizer", "betas", "hold"})
    asks_gradients = "compressed-gradient"
    shares_factors = True
    takes_heads = True

    def __init__(self, settings: AlgorithmSettings) -> None:
        server = settings.server
        self.settings, self.train = settings, settings.train
        self.rank = server.rank_shared or settings.max_rank
        self.rank_global = server.rank_global or 4 * self.rank
        self.rank_kept = server.rank_kept or 4 * self.rank_global
        self._broadcast = Broadcast(settings, self.rank_global)
        self.scaling = settings.lora.scaling(self.rank)
        self.hold = None if isinstance(server.hold, str) else server.hold
        self.optimizer = Optimizer(None if server.optimizer == "sgd" else server.betas or BETAS)
        self._trained = "ab" if server.mode == "both" else "b"
        _check(settings, self.rank)

    def initial(self, shapes: Shapes, start: Adapter = NOTHING) -> State:
        """Make B = 0 beside a fresh A; the start is what was folded."""
        begun = {name: self._begin(name, *shape, 1) for name, shape in shapes.items()}
        parts = {part: Adapter({name: each[part] for name, each in begun.items()}) for part in _STEPPED}
        held = self._broadcast.begin(shapes, start, self.rank_kept)
        dropped = lowrank.total_norm(held["lost"].values())
        return State(0, {**held, **parts, "gradient": parts["first"]}, dropped)

    def round(self, state: State, keep: StoreModules = store_in_memory) -> Phases:
        """Run one exchange; nodes remember what they have not sent since A was drawn."""
        assign = partial(self._assign, state.parts["global"], self._sent(state))
        return self.reduce(state, (yield Phase(assign, self.memory_begins(state))), keep)

    def assign(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        """Ask for the gradient of the shared factors, to be sent at the node's rank."""
        return self._assign(state.parts["global"], self._sent(state), node, ranks)

    def _assign(self, frozen: Adapter, shared: Adapter, node: str, ranks: RankPattern) -> Assignment:
        return Assignment(
            frozen,
            shared,
            self.settings.server.mode,
            self.scaling,
            returns="compressed-gradient",
            reply_rank=ranks.rank,
        )

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Add the gradients, step, and fold where `hold` rounds are over."""
        gradient = {name: self._sum(updates, name, held) for name, held in state.parts["shared"].items()}
        clip = clip_factor((s * array for f in gradient.values() for s, array in self._sides(f)), self.train.clip)
        whole = self._broadcast.rank_of_whole(state.parts["global"], state.round + 1)
        parts = keep((name, self._reduce(state, name, g, clip, whole)) for name, g in gradient.items())
        if not self._folds(state.round + 1):
            return State(state.round + 1, parts, state.dropped, state.step + 1)
        return State(state.round + 1, parts, state.dropped + lowrank.total_norm(parts["lost"].values()))

    def total_update(self, state: State) -> Adapter:
        """Return S + s B A, in float64."""
        return stack_adapters(state.parts["mass"], state.parts["shared"], "f8")

    def broadcast_update(self, state: State) -> Adapter:
        """Return G + s B A, in float32 as the wire holds it: what nodes compute gradients at."""
        return stack_adapters(state.parts["global"], self._sent(state))

    def _sent(self, state: State) -> Adapter:
        """Return the shared factors as the wire holds them, at which nodes compute their gradients."""
        held = state.parts["shared"].items()
        return Adapter({name: self.settings.rounded(f, "shared", state.round, name) for name, f in held})

    def dropped_update(self, state: State) -> Adapter:
        """Return what the cap on S dropped at the last fold."""
        return state.parts["lost"]

    def summed(self, state: State) -> Adapter:
        """Return the summed gradient of the last round, in the form of the replies."""
        modules = [(name, factors) for name, factors in state.parts["gradient"].items() if factors.rank]
        held = {f"{side}/{name}": getattr(f, side) for name, f in modules for side in "ab"}
        own = {name: gradient_of(name[0], array) for name, array in held.items() if name[0] in self._trained}
        return Adapter({name: Factors(np.eye(g.shape[1]), g) for name, g in own.items()})

    def with_head(self, state: State, head: Factors) -> State:
        """Return the state in which S and G have this update of the head's last projection, and s B of it is zero."""
        name, parts = self.settings.last, {**state.parts, **self._broadcast.replaced(state, head)}
        shared = parts["shared"][name]
        still = Factors(shared.a, np.zeros_like(shared.b))
        return replace(state, parts={**parts, "shared": ReplacedModule(parts["shared"], name, still)})

    def memory_begins(self, state: State) -> int:
        """Return the round after which A was drawn: what a node kept of a gradient by an earlier A is of no use."""
        return state.round - state.round % self.hold if self.hold else 0

    def _begin(self, name: str, d: int, k: int, number: int) -> dict[str, Factors]:
        """Return shared factors with a fresh A and B = 0, and moments of 0."""
        rank = self.settings.rank_of(name, d, k, self.rank)
        a = orthonormal_rows(rng(self.settings.seed, "a", number, name).standard_normal((rank, k)))
        still = Factors(np.zeros((rank, k)), np.zeros((d, rank)))
        # Rounded as it is sent, so that the state is what the nodes have.
        shared = self.settings.rounded(
            Factors(a * self.settings.row_norm(name, k), still.b), "shared", number - 1, name
        )
        return {"shared": shared.astype("f8"), "first": still, "second": still}

    def _sum(self, updates: Sequence[WeightedUpdate], name: str, held: Factors) -> Factors:
        """Return sum_i p_i g_i of a module, by A and by s B; 0 for a factor that is not trained."""
        sums: dict[str, Array] = {}
        for side in "ab":
            total = np.zeros_like(gradient_of(side, getattr(held, side)))
            for update in updates if side in self._trained and held.rank else ():
                sent = update.modules[f"{side}/{name}"].astype("f8")
                total += update.share * (sent.b @ sent.a)
            sums[side] = gradient_of(side, total)
        return Factors(sums["a"], sums["b"])

    def _sides(self, factors: Factors) -> list[tuple[float, Array]]:
        """Return A and B, each with the factor from the gradient of what is sent to its own: s B holds the scale."""
        return [(1.0, factors.a), (self.scaling, factors.b)]

    def _reduce(
        self, state: State, name: str, gradient: Factors, clip: float, whole: int | None
    ) -> Mapping[str, Factors]:
        """Return a module's factors in each part of the next state; `whole` is the rank of a new whole G, if any."""
        held = {part: adapter[name].astype("f8") for part, adapter in state.parts.items() if part in _STEPPED}
        moved = {part: dict[str, Array]() for part in _STEPPED}
        for side, (scale, g) in zip("ab", self._sides(gradient), strict=True):
            moments = getattr(held["first"], side), getattr(held["second"], side)
            rate = scheduled_rate(self.train, state.round / self.train.rounds, state.step)
            change, moments = self.optimizer.step(clip * scale * g, moments, state.step + 1, rate)
            moved["shared"][side] = getattr(held["shared"], side) + scale * change
            moved["first"][side], moved["second"][side] = moments
        shared, first, second = (Factors(**moved[part]) for part in _STEPPED)
        frozen = {part: state.parts[part][name] for part in ("mass", "global", "lost")}
        after = {**frozen, "shared": shared, "first": first, "second": second, "gradient": gradient}
        return after | (self._fold(state, name, shared, whole) if self._folds(state.round + 1) else {})

    def _folds(self, number: int) -> bool:
        """Return whether round `number` ends with a new A."""
        return self.hold is not None and number % self.hold == 0

    def _fold(self, state: State, name: str, shared: Factors, whole: int | None) -> dict[str, Factors]:
        """Return the parts of a module that change as s B A is added to S and A is drawn anew."""
        mass, sent, number = state.parts["mass"][name], state.parts["global"][name], state.round + 1
        total = lowrank.recompress(lowrank.stack([(1.0, mass), (1.0, shared)]))
        rank = total.rank if self.settings.is_whole(name) else self.rank_kept
        kept = total.leading_part(rank)
        return {
            "mass": kept,
            "global": self._broadcast.next(kept, sent, whole, number, name),
            "lost": total.trailing_part(rank),
            **self._begin(name, *shared.shape, number + 1),
        }


_STEPPED = ("shared", "first", "second")
"""Parts of the state that a step changes."""


def _check(settings: AlgorithmSettings, rank: int) -> None:
    """Raise if the settings ask for what this rule has not, or promise a node less than its rank."""
    server = settings.server
    if rank < settings.max_rank:
        raise ConfigError(
            f"[server] rank_shared = {rank} is below the largest rank of a node, {settings.max_rank}; "
            "raise rank_shared, or lower the nodes' ranks ([clients] ranks, or [base] max_rank of a server's file)"
        )
    if server.optimizer == "sgd" and server.betas:
        raise ConfigError('[server] betas are Adam\'s, but optimizer = "sgd"; remove betas, or set optimizer = "adam"')
    if server.a != "warm":
        raise ConfigError(
            f'[server] a = "{server.a}" is for clients that train factors of their own, but under "fedsgd" all share '
            "the server's; remove a"
        )
    if server.proximal:
        raise ConfigError(
            f'[server] proximal = {server.proximal:g} needs local steps, and nodes take none under "fedsgd"; remove it'
        )
