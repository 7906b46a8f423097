"""The interface of every algorithm, and the values that it works on."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from typing import Protocol

from common.adapters.adapter import Adapter, Factors, Shapes
from common.adapters.rounding import round_factors
from common.protocol.assignment import Assignment, RankPattern, Returns, Term
from common.settings.recipe import LoraSettings, Server, Train
from server.algorithms.state import State

NOTHING = Adapter()
"""No update: every module begins at zero."""


@dataclass(frozen=True)
class AlgorithmSettings:
    """Settings of an algorithm: seed, client ranks, [lora], [server], the modules that are a new head, and [train].

    `last` is the new head's last projection; empty if there is none. `module_ranks` are the largest ranks of modules
    that have one of their own.
    """

    seed: int
    ranks: tuple[int, ...]
    lora: LoraSettings
    server: Server
    head: frozenset[str] = frozenset()
    train: Train = field(default_factory=lambda: Train(rounds=1))
    last: str = ""
    module_ranks: Mapping[str, int] = field(default_factory=dict)

    def rank_of(self, name: str, d: int, k: int, most: int) -> int:
        """Return the rank of a module's trained factors: `most`, its own if that is lower, and min(d, k) at most."""
        return min(most, self.module_ranks.get(name, most), d, k)

    @property
    def max_rank(self) -> int:
        """The largest client rank of the run."""
        return max(self.ranks)

    def is_whole(self, name: str) -> bool:
        """Return whether no rank is cut from this module: the last projection of a new head in closed form."""
        return self.lora.head != "trained" and name == self.last

    def row_norm(self, name: str, k: int) -> float:
        """Return the norm of a row of a random A (r, k).

        1, as in LoRA's initialisation up to a constant. For a new head sqrt(k): Adam on its whole matrix moves a row by
        lr sqrt(k) in a step, and with such an A the product B A moves as fast.
        """
        return sqrt(k) if name in self.head else 1.0

    def rounded(self, factors: Factors, *key: str | int) -> Factors:
        """Return a module's factors in float32 as the wire holds them; the last word of the key is its name."""
        return round_factors(factors, self.server.wire, self.seed, *key)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Terms of every client's gradient: FedProx's, (mu / 2) ||w - w_0||^2, where the run has one."""
        mu = self.server.proximal
        return (Term("proximal", {"mu": mu}),) if mu else ()


@dataclass(frozen=True)
class WeightedUpdate:
    """One valid update in the sum of a round.

    Args:
        share: its weight p_i; all shares of a round add up to 1.
        rank: of its node.
        modules: (s_i B_i, A_i) by module. It may read from disk at each access, so a reduction reads one at a time.
        start: the factors that the node started from.
        name: of the node.
        noise: of a gradient: its variance, ||.||^2 summed over all numbers, as estimated from its two half-batches.
    """

    share: float
    rank: int
    modules: Mapping[str, Factors]
    start: Mapping[str, Factors] = field(default_factory=dict)
    name: str = ""
    noise: float = 0.0


StoreModules = Callable[[Iterable[tuple[str, Mapping[str, Factors]]]], Mapping[str, Adapter]]
"""Takes modules one by one, each with its factors in every part of a state, and returns the parts."""


def store_in_memory(modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> dict[str, Adapter]:
    """Return the parts that these modules make."""
    parts: dict[str, dict[str, Factors]] = {}
    for name, factors in modules:
        for part, each in factors.items():
            parts.setdefault(part, {})[name] = each
    return {part: Adapter(held) for part, held in parts.items()}


@dataclass(frozen=True)
class Phase:
    """One exchange of a round with its cohort.

    Args:
        assign: returns the assignment of a node, by its name and its ranks.
        memory_begins: round after which a node's memory of what it has not sent is of use; None if nodes keep none.
    """

    assign: Callable[[str, RankPattern], Assignment]
    memory_begins: int | None = None


Phases = Generator[Phase, Sequence[WeightedUpdate], State]
"""A round: it yields a phase, is sent the updates of that phase in order of node name, and returns the next state."""


class Algorithm(Protocol):
    """Pure functions of a state; every sequence of updates is in order of node name."""

    settings: AlgorithmSettings
    """What it was made with."""
    weights: str | None = None
    """The only weighting rule that the algorithm is defined with; None leaves the choice to [server] weights."""
    default_weights: str = "examples"
    """The weighting rule where [server] weights is not set."""
    keys: frozenset[str] = frozenset()
    """Keys of [server] that not every algorithm has, and this one has."""
    travels: str
    """What goes to a node and back in a round."""
    node_keeps: str = "nothing from one round to the next"
    """What a node keeps from one round to the next."""
    server_keeps: str
    """What the server keeps from one round to the next."""
    asks_gradients: Returns | None = None
    """The kind of gradient that nodes are asked for, which a node's policy may not let leave; None for none."""
    shares_factors: bool = False
    """All nodes compute with factors of one rank, whatever their own, and send at their own."""
    one_rank: bool = False
    """All nodes train at the run's largest rank."""
    phases: int = 1
    """Phases of a round, which every request states, so that a node knows at the first what the round will ask."""
    takes_heads: bool = False
    """The state has a sum in which a module's whole update can be replaced."""
    averages_apart: bool = False
    """A and B are averaged each by itself, from starts that are not 0, so that the norm bound limits both."""

    def __init__(self, settings: AlgorithmSettings) -> None: ...

    def round(self, state: State, keep: StoreModules = store_in_memory) -> Phases:
        """Run one round; by default one exchange, and `reduce` of its updates."""
        return self.reduce(state, (yield Phase(partial(self.assign, state))), keep)

    def initial(self, shapes: Shapes, start: Adapter = NOTHING) -> State:
        """Make the state before training, for target modules of these (d, k), at the update `start`.

        Args:
            shapes: of all modules.
            start: of those that do not begin at zero.

        Raises:
            ConfigError: the rule's state cannot be of this update.
        """
        ...

    def assign(self, state: State, node: str, ranks: RankPattern) -> Assignment:
        """Return the assignment for the node of this name and these ranks in the next round."""
        ...

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """Return the state after a round with these updates; `keep` gets each module as soon as it is made."""
        ...

    def total_update(self, state: State) -> Adapter:
        """Return the whole global update so far, in float64 if the algorithm is exact."""
        ...

    def broadcast_update(self, state: State) -> Adapter:
        """Return the global update in the form that clients receive, and that is evaluated and exported."""
        ...

    def dropped_update(self, state: State) -> Adapter:
        """Return what a cap on the rank dropped for good in the last round; unaffected modules may be absent."""
        ...

    def with_head(self, state: State, head: Factors) -> State:
        """Return the state in which the last projection of a new head has this update, in place of its own.

        Raises:
            TypeError: the algorithm takes none.
        """
        raise TypeError(f"{type(self).__name__} takes no head")

    def summed(self, state: State) -> Adapter | None:
        """Return the sum of the last round's gradients, in the form of the replies; None where updates are summed."""
        return None
