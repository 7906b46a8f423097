"""What every algorithm offers, and the values it works on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

from common.adapters.adapter import Adapter, Factors, Shapes
from common.protocol.assignment import Assignment
from common.settings.recipe import LoraSettings, Server
from server.algorithms.state import State


@dataclass(frozen=True)
class AlgorithmSettings:
    """What an algorithm is made from: seed, client ranks, [lora] and [server], and which modules are a new head."""

    seed: int
    ranks: tuple[int, ...]
    lora: LoraSettings
    server: Server
    head: frozenset[str] = frozenset()

    @property
    def max_rank(self) -> int:
        """The largest client rank of the run."""
        return max(self.ranks)

    def row_norm(self, name: str, k: int) -> float:
        """Norm of a row of a random A (r, k).

        1, as in LoRA's initialisation up to a constant. For a new head sqrt(k): Adam on its whole matrix moves a row by
        lr sqrt(k) in a step, and with such an A the product B A moves as fast.
        """
        return sqrt(k) if name in self.head else 1.0


@dataclass(frozen=True)
class WeightedUpdate:
    """One admitted update: its share p_i of the round (all shares sum to 1), its rank, and (s_i B_i, A_i) by module.

    `modules` may read from disk at each access, so a reduction asks for one module at a time.
    """

    share: float
    rank: int
    modules: Mapping[str, Factors]


StoreModules = Callable[[Iterable[tuple[str, Mapping[str, Factors]]]], Mapping[str, Adapter]]
"""Takes modules one by one, each with its factors in every part of a state, and gives the parts."""


def store_in_memory(modules: Iterable[tuple[str, Mapping[str, Factors]]]) -> dict[str, Adapter]:
    """The parts that these modules make."""
    parts: dict[str, dict[str, Factors]] = {}
    for name, factors in modules:
        for part, each in factors.items():
            parts.setdefault(part, {})[name] = each
    return {part: Adapter(held) for part, held in parts.items()}


class Algorithm(Protocol):
    """Pure functions of a state. `reduce` runs once a round, over updates in order of node name."""

    def __init__(self, settings: AlgorithmSettings) -> None: ...

    def initial(self, shapes: Shapes) -> State:
        """The state before training, for target modules of these (d, k)."""
        ...

    def assign(self, state: State, rank: int) -> Assignment:
        """What a client of this rank is to train in the next round."""
        ...

    def reduce(self, state: State, updates: Sequence[WeightedUpdate], keep: StoreModules = store_in_memory) -> State:
        """The state after a round with these updates; `keep` has each of its modules as soon as it is made."""
        ...

    def total_update(self, state: State) -> Adapter:
        """The whole global update so far, in float64 where the algorithm is exact."""
        ...

    def broadcast_update(self, state: State) -> Adapter:
        """The global update as clients have it, and as it is evaluated and exported."""
        ...

    def dropped_update(self, state: State) -> Adapter:
        """What a cap on the rank dropped for good in the last round; modules of which nothing was may be absent."""
        ...
