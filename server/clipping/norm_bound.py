"""Norm bound: what a reply may move at most, from its order alone and from the replies of others.

The order. A node trains by AdamW without weight decay, with a new optimizer in each round. Step t moves a coordinate by
rate_t m / (sqrt(v) + eps) at most, with m, v the corrected moments of its gradients g_1 ... g_t. By Cauchy-Schwarz

    |sum_i b1^(t-i) g_i| <= sqrt(sum_i q^(t-i)) sqrt(sum_i b2^(t-i) g_i^2),      q = b1^2 / b2

so that whatever the data, terms, clipping or dropout are, it moves by less than rate_t kappa_t, with

    kappa_t = (1 - b1) / sqrt(1 - b2)  sqrt(1 - b2^t) / (1 - b1^t)  sqrt((1 - q^t) / (1 - q))

which gradients g_i ~ (b1 / b2)^(t-i) attain. kappa rises from 1 to 7.3, so a skipped step moves nothing further. With
delta = sum_t rate_t kappa_t, from a start (s B0, A0) of a module (d, k) of rank r, in Frobenius norms:

    ||s B - s B0|| <= s delta sqrt(d r)        ||A - A0|| <= delta sqrt(r k)        0 for a factor that is not trained
    ||dW - dW0||   <= ||s B - s B0|| ||A0||_2 + ||s B0||_2 ||A - A0|| + ||s B - s B0|| ||A - A0||

and the squares of the modules add up. Rounding to the wire is added to each move. A gradient has no such bound.

The others. With at least four replies in a phase: a multiple of the lower median of the norms, as received, of this
and all earlier rounds; of a gradient also with fewer, a multiple of the largest among the others.
"""

from collections.abc import Sequence
from functools import cached_property
from math import inf, sqrt
from typing import Literal

import numpy as np

from common.adapters.adapter import Array, Factors
from common.adapters.change import frobenius
from common.adapters.rounding import rounding_norm
from common.protocol.assignment import Assignment

BETA1, BETA2 = 0.9, 0.999
"""Of PyTorch's AdamW, which nodes use as it is."""
TOLERANCE = 1e-3
"""Relative, for float32 in the optimizer's moments; roundings of the factors themselves are added by step."""
ROUNDING = 2.0**-23
FEWEST = 4
"""Replies from which a median says something about one of them."""
MULTIPLE = 8.0
"""Of the median. The largest reply of honest nodes with very different labels was 2.6 medians in tests (`found_S5`)."""

Bound = Literal["auto"] | float
"""[server] norm_bound."""


def largest_step(step: int) -> float:
    """Return kappa: the most that AdamW moves a coordinate in this step, counted from 1, at a rate of 1."""
    q = BETA1**2 / BETA2
    corrections = sqrt(1 - BETA2**step) / (1 - BETA1**step)
    return (1 - BETA1) / sqrt(1 - BETA2) * corrections * sqrt((1 - q**step) / (1 - q))


def largest_move(rates: Sequence[float]) -> float:
    """Return delta: the most that these steps move a coordinate."""
    return sum(rate * largest_step(step) for step, rate in enumerate(rates, 1))


class OrderBound:
    """What an order of these rates allows.

    Args:
        order: start, scale, and what is trained; not one for a gradient.
        rates: of its steps.
    """

    def __init__(self, order: Assignment, rates: Sequence[float]) -> None:
        self._order, self._steps, self._delta = order, len(rates), largest_move(rates) * (1 + TOLERANCE)

    def moves(self, start: Factors) -> tuple[float, float]:
        """Return the largest ||A - A0|| and ||s B - s B0|| of a module, from its start, as the wire holds them."""
        trains, scaling = self._order.trains, self._order.scaling
        a = self._move(start.a, 1.0, is_b=False) if trains != "b" else 0.0
        b = self._move(start.b, scaling, is_b=True) if trains != "a" else 0.0
        return a, b

    @cached_property
    def norm(self) -> float:
        """Return the largest ||dW - dW0|| over all modules."""
        return sqrt(sum(self._change(start) ** 2 for start in self._order.start.values()))

    def _move(self, array: Array, scale: float, is_b: bool) -> float:
        step = scale * self._delta * sqrt(array.size)
        move = step + ROUNDING * (self._steps + 3) * (frobenius(array) + step)
        return move + rounding_norm(array, self._order.wire, is_b, moved=move)

    def _change(self, start: Factors) -> float:
        a, b = self.moves(start)
        return b * _spectral(start.a) + _spectral(start.b) * a + b * a


def bounds_by_replies(norms: Sequence[float], earlier: Sequence[float], gradient: bool) -> list[float]:
    """Return what the other replies allow each of these norms; infinite where they say nothing.

    Args:
        norms: as received in this phase.
        earlier: the same of the phase in earlier rounds; a norm of 0 says nothing about others.
        gradient: the replies are gradients.
    """
    if len(norms) >= FEWEST:
        return [MULTIPLE * _lower_median([*earlier, *norms])] * len(norms)
    if gradient:
        return [MULTIPLE * max((*norms[:i], *norms[i + 1 :]), default=inf) or inf for i in range(len(norms))]
    return [inf] * len(norms)


def _lower_median(norms: Sequence[float]) -> float:
    ordered = sorted(norm for norm in norms if norm)
    return ordered[(len(ordered) - 1) // 2] if ordered else inf


def _spectral(array: Array) -> float:
    return float(np.linalg.norm(array.astype("f8"), 2)) if array.size else 0.0
