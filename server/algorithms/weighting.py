"""Weighting: from the valid updates of a round to the share of each in the sum.

A share is decided here and nowhere else: the number that `reduce` uses is the one that is recorded, signed and shown.
Shares add up to 1. A rule that reads the factors takes a node's own numbers for its weight, so then no share exceeds
2 / K of K updates, nor what the node's limit in the roster allows beside the counts of the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from common.errors import look_up
from common.protocol.assignment import Assignment
from server.algorithms.base import WeightedUpdate

Limit = Callable[[str], int | None]
"""Returns the most examples that the roster lets a node report in a round, by its name; None without a limit."""


@dataclass(frozen=True)
class ClientUpdate:
    """One valid update before it is weighted.

    Args:
        name: of its node.
        rank: of its node.
        examples: rows that it was trained on, with repetition.
        tokens: tokens that carried loss, with repetition.
        modules: (s_i B_i, A_i) by module, clipped where the update was.
        order: what the node was asked for; only start, scale, `trains` and `returns` are kept.
        norm: of the change from the start, as received (`common.adapters.change`).
        clip: the factor by which the norm bound scaled it.
        update: SHA-256 of the factors that were sent.
        signature: of the reply, by its node; empty in a simulation.
        predictions: that its node announced, as far as the roster allows them.
        noise: variance of a gradient, as its node estimates it.
    """

    name: str
    rank: int
    examples: int
    tokens: int
    modules: Mapping[str, Factors]
    order: Assignment = field(default_factory=lambda: Assignment(Adapter(), Adapter()))
    norm: float = 0.0
    clip: float = 1.0
    update: str = ""
    signature: str = ""
    predictions: int = 0
    noise: float = 0.0

    @property
    def start(self) -> Mapping[str, Factors]:
        """The factors that the node was given to start from."""
        return self.order.start

    def weighted(self, share: float) -> WeightedUpdate:
        """Return the update with its share of the round."""
        return WeightedUpdate(share, self.rank, self.modules, self.start, self.name, self.noise * self.clip**2)


@dataclass(frozen=True)
class Weighting:
    """One weight for each update, on any scale; 0 leaves the update out of the sum.

    Args:
        weigh: returns the weights, none of them negative.
        reads_factors: the weights depend on the factors, which a node can make as large as it likes.
        by_announced_rows: the weights are what the nodes announced, which the roster caps.
    """

    weigh: Callable[[Sequence[ClientUpdate]], Sequence[float]]
    reads_factors: bool = False
    by_announced_rows: bool = False


def _norms(updates: Sequence[ClientUpdate]) -> list[float]:
    """Return ||s_i B_i A_i|| over all modules (HetLoRA, arXiv 2401.06432, section 3)."""
    return [lowrank.total_norm(update.modules.values()) for update in updates]


WEIGHTINGS = {
    "examples": Weighting(lambda updates: [update.examples for update in updates]),
    "tokens": Weighting(lambda updates: [update.tokens for update in updates]),
    "rows": Weighting(lambda updates: [update.predictions for update in updates], by_announced_rows=True),
    "uniform": Weighting(lambda updates: [1] * len(updates)),
    "norm": Weighting(_norms, reads_factors=True),
}


def weighting_named(name: str) -> Weighting:
    """Return the weighting rule of this name.

    Raises:
        ConfigError: there is none.
    """
    return look_up(WEIGHTINGS, "[server] weights", name)


def find_shares(
    updates: Sequence[ClientUpdate],
    rule: Weighting,
    max_share: float | Literal["auto"] = "auto",
    limit: Limit = lambda name: None,
) -> list[float]:
    """Return the share of each update.

    Args:
        updates: all valid ones of a round.
        rule: gives their weights.
        max_share: largest share of one update; "auto" is 2 / K for a rule that reads the factors, else 1. As shares add
            up to 1, a value below 1 / K counts as 1 / K.
        limit: of each node by the roster.
    """
    if not updates:
        return []
    if max_share == "auto":
        max_share = 2 / len(updates) if rule.reads_factors else 1.0
    caps = [max(max_share, 1 / len(updates))] * len(updates)
    if rule.reads_factors:
        caps = _below_roster(caps, _roster_shares(updates, limit))
    return cap_shares(rule.weigh(updates), caps)


def _roster_shares(updates: Sequence[ClientUpdate], limit: Limit) -> list[float]:
    """Return the share that each would have by examples, had it as many as its limit, beside those of the others.

    For a rule that counts, the roster's limit needs no cap: a reply that reports more is rejected.
    """
    total = sum(update.examples for update in updates)
    others = [(limit(update.name), total - update.examples) for update in updates]
    return [inf if own is None else own / (own + rest) for own, rest in others]


def _below_roster(caps: Sequence[float], most: Sequence[float]) -> list[float]:
    """Return caps that also keep the roster's; if those add up to less than 1, the roster's rise in proportion."""
    lower = [min(pair) for pair in zip(caps, most, strict=True)]
    return lower if sum(lower) >= 1 else cap_shares([min(each, 1.0) for each in most], caps)


def cap_shares(weights: Sequence[float], caps: Sequence[float]) -> list[float]:
    """Return shares in proportion to the weights, none above its cap, that add up to 1.

    What a cap takes away is spread over the others in proportion to their weights; equally, where all of these are 0.
    The caps have to add up to 1 or more.
    """
    capped: dict[int, float] = {}
    while len(capped) < len(weights):
        shares = _spread(weights, capped)
        over = {i: caps[i] for i in shares if shares[i] > caps[i]}
        capped |= over or shares
    return [capped[i] for i in range(len(weights))]


def _spread(weights: Sequence[float], capped: Mapping[int, float]) -> dict[int, float]:
    """Return the shares of the updates that are not capped, by position."""
    free = {i: weight for i, weight in enumerate(weights) if i not in capped}
    left, total = 1.0 - sum(capped.values()), sum(free.values())
    return {i: left * (weight / total) if total else left / len(free) for i, weight in free.items()}
