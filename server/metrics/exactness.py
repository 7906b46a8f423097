"""Exactness of a round, computed from the updates themselves and not from what the algorithm reports.

Beside it the drift gauge: agreement, (||sum_i p_i Delta_i||^2 - sum_i p_i^2 v_i) / (sum_i p_i (||Delta_i||^2 - v_i)).
It is 1 where all clients push the same way, and 1 / K where K of equal size are orthogonal. v_i is the variance of a
gradient by the choice of its rows, without which gradients of few rows would read 1 / K whatever they are of; that of
an update of local steps is not known, and counted as 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import sqrt

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors, zeros
from common.adapters.change import change_terms
from server.algorithms.base import Algorithm, WeightedUpdate
from server.algorithms.state import State
from server.metrics.rounds import Exactness

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
        yield from change_terms(update.modules, update.start, name, update.share)


def agreement(updates: Sequence[WeightedUpdate]) -> float | None:
    """Return how far the updates of a round point one way, from 0 to 1; None where they are no more than noise."""
    together = -sum(update.share**2 * update.noise for update in updates)
    apart = -sum(update.share * update.noise for update in updates)
    for name in updates[0].modules:
        delta = lowrank.total(_terms(updates, name))
        together += lowrank.inner(delta, delta)
        apart += sum(update.share * _size(update, name) for update in updates)
    return min(max(together / apart, 0.0), 1.0) if apart > 0 else None


def _size(update: WeightedUpdate, name: str) -> float:
    """Return ||Delta_i||^2 of a module."""
    own, *start = change_terms(update.modules, update.start, name)
    if not start:  # Nothing cancels, so that the faster way is exact enough.
        return lowrank.inner(own[1], own[1])
    return lowrank.norm(lowrank.stack([own, *start])) ** 2


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
    mass = algorithm.total_update(after)
    if (summed := algorithm.summed(after)) is None:
        exact = aggregation_error(algorithm.total_update(before), mass, algorithm.dropped_update(after), updates)
    else:
        exact = aggregation_error(zeros(summed.shapes), summed, Adapter(), updates)
    return replace(measure_state(algorithm, after), aggregation_error=exact, agreement=agreement(updates))


def measure_state(algorithm: Algorithm, state: State) -> Exactness:
    """Measure how much of the global update a state's broadcast and caps leave out."""
    mass, broadcast = algorithm.total_update(state), algorithm.broadcast_update(state)
    dropped = state.dropped / lowrank.total_norm(mass.values()) if state.dropped else 0.0
    return Exactness(None, broadcast_gap(mass, broadcast), dropped, broadcast.rank)
