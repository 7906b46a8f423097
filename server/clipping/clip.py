"""Clipping: an update above its bound is scaled down, never refused, and nothing after it knows the difference.

`increments` and `fedlin` start from B = 0. Scaling B by bound / ||dW|| is exact and knows no coordinates, and then the
reply moves the sum by at most bound times its share.

`fedit` and `hetlora` average A and B apart, where coordinates matter: a tiny B beside a huge A has a small product, but
ruins the average. There each factor's move is first scaled into what the order allows it, so that a reply moves the
average of A and that of B by at most its share of that; then both by

    t = bound / sum, sum^2 = sum_modules (||dB A0 + B0 dA|| + ||dB dA||)^2

where the change of the product is above the bound; as t <= 1 it is then below, (B0 + t dB)(A0 + t dA) being
B0 A0 + t (dB A0 + B0 dA) + t^2 dB dA.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, inf

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Array, Factors
from common.adapters.change import frobenius
from server.algorithms.weighting import ClientUpdate
from server.clipping.norm_bound import Bound, OrderBound, bounds_by_replies

Scales = tuple[float, float]
"""What is left of a module's move of A, and of B."""


class ScaledMoves(Mapping[str, Factors]):
    """Factors between their start and what was sent; read, and scaled in float64, at each access.

    A compressed gradient has no start: its B is scaled to 0.
    """

    def __init__(self, modules: Mapping[str, Factors], start: Mapping[str, Factors], scales: Mapping[str, Scales]):
        self._modules, self._start, self._scales = modules, start, scales

    def __getitem__(self, name: str) -> Factors:
        sent, (a, b) = self._modules[name], self._scales[name]
        start = self._start.get(name) or Factors(sent.a, np.zeros_like(sent.b))
        return Factors(_between(start.a, sent.a, a), _between(start.b, sent.b, b))

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


def _between(start: Array, sent: Array, scale: float) -> Array:
    return sent if scale == 1 else start.astype("f8") + scale * (sent.astype("f8") - start)


@dataclass(frozen=True)
class NormBound:
    """The norm bound of a run.

    Args:
        bound: [server] norm_bound; 0 switches all of it off. A number takes the place of what the order and the other
            replies allow the product; not of what the order allows each factor, nor of what they allow the gradient
            that `fedlin` asks for beside an update.
        apart: the algorithm averages A and B apart.
    """

    bound: Bound
    apart: bool

    def clip(
        self, updates: Sequence[ClientUpdate], rates: Sequence[float], earlier: Sequence[float]
    ) -> list[ClientUpdate]:
        """Return the updates of a phase, each with the factor by which it was clipped; 1 leaves its bits as they are.

        Args:
            updates: all valid ones of the phase.
            rates: learning rates of its steps.
            earlier: norms of the replies of the same phase in earlier rounds.
        """
        if not self.bound or not updates:
            return list(updates)
        gradient = updates[0].order.returns != "update"
        others = bounds_by_replies([update.norm for update in updates], earlier, gradient)
        # Nodes of one rank have one start in memory, whose norms are then computed once.
        orders = {(id(each.start), each.order.scaling): OrderBound(each.order, rates) for each in updates}
        allowed = [orders[id(each.start), each.order.scaling] for each in updates]
        return [self._clip(*each) for each in zip(updates, allowed, others, strict=True)]

    def _clip(self, update: ClientUpdate, order: OrderBound, others: float) -> ClientUpdate:
        gradient = update.order.returns != "update"
        if self.apart:
            return _clip_moves(update, order, others if self.bound == "auto" else self.bound)
        if self.bound == "auto" or update.order.returns == "gradient":
            bound = min(others, inf if gradient else order.norm)
        else:
            bound = self.bound
        if update.norm <= bound:
            return update
        scale = bound / update.norm
        return _scaled(update, dict.fromkeys(update.modules, (1.0, scale)), scale)


def _clip_moves(update: ClientUpdate, order: OrderBound, bound: float) -> ClientUpdate:
    """Clip each factor's move to what the order allows it, then both moves to the bound on the product."""
    scales = {name: _into_box(update, name, order) for name in update.modules}
    if (least := min(map(min, scales.values()))) < 1:
        update = _scaled(update, scales, least)
    change, most = 0.0, 0.0
    if bound < inf:
        sizes = [_sizes(update.modules[name], update.start[name]) for name in update.modules]
        change, most = (hypot(*column) for column in zip(*sizes, strict=True))
    if change <= bound:
        return update
    scale = bound / most
    return _scaled(update, dict.fromkeys(update.modules, (scale, scale)), scale)


def _into_box(update: ClientUpdate, name: str, order: OrderBound) -> Scales:
    start, sent = update.start[name], update.modules[name]
    moves = frobenius(sent.a.astype("f8") - start.a), frobenius(sent.b.astype("f8") - start.b)
    a, b = (1.0 if move <= limit else limit / move for move, limit in zip(moves, order.moves(start), strict=True))
    return a, b


def _sizes(sent: Factors, start: Factors) -> tuple[float, float]:
    """Return ||dW - dW0||, and the larger ||dB A0 + B0 dA|| + ||dB dA||."""
    moved = Factors(sent.a.astype("f8") - start.a, sent.b.astype("f8") - start.b)
    sides = [(1.0, Factors(start.a, moved.b)), (1.0, Factors(moved.a, start.b))]
    linear, both = lowrank.stack(sides), lowrank.stack([*sides, (1.0, moved)])
    return lowrank.norm(both), lowrank.norm(linear) + lowrank.norm(moved)


def _scaled(update: ClientUpdate, scales: Mapping[str, Scales], clip: float) -> ClientUpdate:
    modules = ScaledMoves(update.modules, update.start, scales)
    return replace(update, modules=modules, clip=update.clip * clip)
