"""How exact a round was, computed from the updates themselves and not from what the algorithm says it did."""

from collections.abc import Mapping, Sequence
from math import sqrt

from common import lowrank
from common.adapter import Adapter, Factors
from server.algorithms.base import Weighted


def receipt(
    before: Mapping[str, Factors],
    after: Mapping[str, Factors],
    updates: Sequence[Weighted],
    starts: Mapping[int, Adapter],
) -> float:
    """||(S_t - S_{t-1}) - Delta|| / ||Delta|| with Delta = sum_i p_i (trained_i - start_i), over all modules.

    Args:
        before: the whole global update S_{t-1}.
        after: the whole global update S_t.
        updates: what was admitted, with the shares that were used.
        starts: the factors from which a client began, by its rank.
    """
    error = size = 0.0
    for name in after:
        delta = lowrank.stack(_terms(updates, starts, name))
        change = [(1.0, after[name]), (-1.0, before[name]), (-1.0, delta)]
        error += lowrank.norm(lowrank.stack(change)) ** 2
        size += lowrank.norm(delta) ** 2
    return sqrt(error / size) if size else sqrt(error)


def _terms(updates: Sequence[Weighted], starts: Mapping[int, Adapter], name: str) -> list[tuple[float, Factors]]:
    trained = [(update.share, update.modules[name]) for update in updates]
    started = [(-update.share, starts[update.rank][name]) for update in updates]
    return trained + [(share, factors) for share, factors in started if factors.b.any()]


def residual(mass: Mapping[str, Factors], broadcast: Mapping[str, Factors]) -> float:
    """||S - G|| / ||S||: the share of the global update that clients do not have yet."""
    error = sum(lowrank.norm(lowrank.stack([(1.0, mass[name]), (-1.0, broadcast[name])])) ** 2 for name in mass)
    size = sum(lowrank.norm(mass[name]) ** 2 for name in mass)
    return sqrt(error / size) if size else 0.0
