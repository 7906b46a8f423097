"""The choice of a head in closed form: lambda and temperature of the least loss on the rows that the nodes hold out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import median_low
from typing import Any, Protocol

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.heads.class_sums import ClassSums
from common.heads.closed_form import PENALTIES, TEMPERATURES, Kind, as_factors, head_weight
from common.protocol.messages import RoundId
from server.algorithms.weighting import Limit
from server.heads.exchange import NodeSums
from server.links.ask import Nodes


class Exchange(Protocol):
    """Asks nodes about heads (`server.heads.exchange`)."""

    def sums(self, nodes: Nodes, round_id: RoundId, update: Adapter) -> Mapping[str, NodeSums]:
        """Return the sums of each node under this global update, by name."""
        ...

    def losses(
        self, nodes: Nodes, round_id: RoundId, update: Adapter, heads: Sequence[Array], temperatures: Sequence[float]
    ) -> tuple[Array, float]:
        """Return the losses of each head at each temperature, summed over all nodes, and the number of rows."""
        ...


@dataclass(frozen=True)
class FittedHead:
    """A head that was made.

    Args:
        record: for log and metrics: kind, whether it is kept, lambda, temperature, losses, and what each node gave; or
            the reason that there is none.
        sums: of all nodes; None if there is none.
    """

    record: Mapping[str, Any]
    sums: ClassSums | None = None

    @property
    def is_kept(self) -> bool:
        """The head is in place of the trained one."""
        return bool(self.record["kept"])

    @property
    def factors(self) -> Factors:
        """Exact factors of the head, in float64, if there is one."""
        assert self.sums
        return factors_of(self.sums, self.record)


def factors_of(sums: ClassSums, record: Mapping[str, Any]) -> Factors:
    """Return the factors of the head that a record describes, made of these sums."""
    return as_factors(head_weight(sums, record["kind"], record["lambda"]), record["temperature"])


LARGEST = 8.0
"""Mean features of a node are at most this many times as long as the lower median of the nodes', as with updates."""


def add_sums(found: Mapping[str, NodeSums], limit: Limit) -> ClassSums:
    """Return the sums over all nodes, in order of name; a node counts as no more rows than the roster allows it."""
    return reduce(add, (_within(each.sums, limit(name)) for name, each in sorted(found.items())))


def _within(sums: ClassSums, limit: int | None) -> ClassSums:
    return sums if limit is None or sums.rows <= limit else sums.scaled(limit / sums.rows)


def far_from_others(found: Mapping[str, NodeSums]) -> set[str]:
    """Return the nodes, of three or more, whose features are much longer than those of most."""
    sizes = {name: each.sums.size for name, each in found.items() if each.sums.rows}
    if len(sizes) < 3:
        return set()
    return {name for name, size in sizes.items() if size > LARGEST * median_low(sizes.values())}


@dataclass(frozen=True)
class Question:
    """What a head is made for.

    Args:
        nodes: to ask.
        round_id: of the questions.
        update: the global update, under which features are computed.
        last: name of the head's last projection.
        kind: of head.
        quorum: fewest nodes whose sums are needed.
        begins: the head there is has not been trained, so that another needs no held-out rows to be better.
    """

    nodes: Nodes
    round_id: RoundId
    update: Adapter
    last: str
    kind: Kind
    quorum: int
    begins: bool


def fit_head(exchange: Exchange, asked: Question, limit: Limit) -> FittedHead:
    """Return the best head under a global update; none if fewer nodes than the quorum sent sums.

    The update's own head is one of those measured, so that a head that is no better is not kept.
    """
    found = dict(exchange.sums(asked.nodes, asked.round_id, asked.update))
    refused = far_from_others(found)
    found = {name: each for name, each in found.items() if name not in refused}
    if len(found) < asked.quorum:
        return FittedHead({"kind": asked.kind, "kept": False, "reason": "quorum"})
    sums = add_sums(found, limit)
    made = _candidates(sums, asked.kind)
    if not made:
        return FittedHead({"kind": asked.kind, "kept": False, "reason": "singular"})
    own = asked.update[asked.last].astype("f8")
    nodes = {node: name for node, name in asked.nodes.items() if name in found}
    weights = [own.b @ own.a, *made.values()]
    losses, count = exchange.losses(nodes, asked.round_id, asked.update, weights, TEMPERATURES)
    record = _choose(losses, count, list(made), asked)
    return FittedHead({**record, **_told(found, refused, sums, count)}, sums)


def _candidates(sums: ClassSums, kind: Kind) -> dict[float, Array]:
    """Return a head for each lambda for which there is one."""
    made = {}
    for penalty in PENALTIES[kind]:
        try:
            weight = head_weight(sums, kind, penalty)
        except np.linalg.LinAlgError:
            continue
        with np.errstate(over="ignore"):
            finite = np.isfinite(weight.astype("f4")).all()
        if finite:
            made[penalty] = weight
    return made


def _choose(losses: Array, count: float, penalties: Sequence[float], asked: Question) -> dict[str, Any]:
    """Return what is said of the best head; row 0 has the losses of the trained one, which has no temperature.

    Of heads that nobody measured it is the smoothest, with the largest lambda and temperature: others overfit few rows.
    """
    trained, made = float(losses[0, TEMPERATURES.index(1.0)]), losses[1:]
    place, column = np.unravel_index(int(np.argmin(made)) if count else made.size - 1, made.shape)
    loss = float(made[place, column])
    return {
        "kind": asked.kind,
        "lambda": penalties[int(place)],
        "temperature": TEMPERATURES[int(column)],
        "loss": loss / count if count else None,
        "loss_trained": trained / count if count else None,
        "kept": loss < trained if count else asked.begins,
    }


def _told(found: Mapping[str, NodeSums], refused: set[str], sums: ClassSums, count: float) -> dict[str, Any]:
    return {
        "rows": sums.rows,
        "held_out": count,
        "left_out": sum(each.left_out for each in found.values()),
        "refused": sorted(refused),
        "sums": {name: each.digest for name, each in found.items()},
    }
