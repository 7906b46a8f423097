"""The server's state after a round: named adapters and a few numbers; the same shape for every algorithm."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.adapters.adapter import Adapter


@dataclass(frozen=True)
class State:
    """The state that is committed at the end of each round.

    Args:
        round: rounds committed so far; 0 before training.
        parts: the algorithm's adapters, by name; the header of the algorithm's module lists them.
        dropped: norm of what a cap on the rank has dropped for good, summed over all rounds.
        step: steps of the server's optimizer since its moments began; 0 for an algorithm that has none.
    """

    round: int
    parts: Mapping[str, Adapter] = field(default_factory=dict)
    dropped: float = 0.0
    step: int = 0
