"""Exactness of a round, computed from the updates themselves and not from what the algorithm reports."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt

from common.adapters import lowrank
from common.adapters.adapter import Factors, zeros
from server.algorithms.base import Algorithm, WeightedUpdate
from server.algorithms.state import State
from server.rounds.metrics import Exactness

Modules = Mapping[str, Factors]


def aggregation_error(before: Modules, after: Modules, lost: Modules, updates: Sequence[WeightedUpdate]) -> float:
    """Return ||(S_t - S_{t-1}) - Delta|| / ||Delta|| with Delta = sum_i p_i (trained_i - start_i), over all modules.

    Args:
        before: the whole global update S_{t-1}.
        after: the whole global update S_t.
        lost: what a cap dropped from S_t in this round, which is reported separately and is not an error of the sum.
        updates: the valid updates, with the shares that were used and the factors that each started from.
    """
    error = size = 0.0
    for name in after:
        delta = lowrank.total(_terms(updates, name))
        change = [(1.0, after[name]), (-1.0, before[name]), (-1.0, delta)]
        dropped = [(1.0, lost[name])] if name in lost else []
        error += lowrank.norm(lowrank.stack(change + dropped)) ** 2
        size += lowrank.inner(delta, delta)
    return sqrt(error / size) if size else sqrt(error)


def _terms(updates: Sequence[WeightedUpdate], name: str) -> Iterator[tuple[float, Factors]]:
    for update in updates:
        yield update.share, update.modules[name]
        if name in update.start and (start := update.start[name]).b.any():
            yield -update.share, start


def broadcast_gap(mass: Modules, broadcast: Modules) -> float:
    """Return ||S - G|| / ||S||, the share of the global update that clients do not have yet, exact to 1e-8."""
    size = both = sent = 0.0
    for name, s in mass.items():
        g = broadcast[name]
        size, both, sent = size + lowrank.inner(s, s), both + lowrank.inner(s, g), sent + lowrank.inner(g, g)
    return sqrt(max(size - 2 * both + sent, 0.0) / size) if size else 0.0


def measure_exactness(
    algorithm: Algorithm, before: State, after: State, updates: Sequence[WeightedUpdate]
) -> Exactness:
    """Measure the exactness of the reduction from `before` to `after`."""
    mass, broadcast, lost = (
        algorithm.total_update(after),
        algorithm.broadcast_update(after),
        algorithm.dropped_update(after),
    )
    if (summed := algorithm.summed(after)) is not None:
        nothing = zeros(summed.shapes)
        exact = aggregation_error(nothing, summed, nothing, updates)
    else:
        exact = aggregation_error(algorithm.total_update(before), mass, lost, updates)
    dropped = after.dropped / lowrank.total_norm(mass.values()) if after.dropped else 0.0
    return Exactness(exact, broadcast_gap(mass, broadcast), dropped, broadcast.rank)
