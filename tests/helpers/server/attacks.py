"""Factors that a node may send to ruin a sum: finite all of them, and of any size and in any coordinates."""

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.change import change_norm
from common.protocol.assignment import Assignment

KINDS = ("large", "gauge", "cancelling", "deficient", "one module", "no move")
LARGEST = float(np.finfo(np.float32).max)


def attack(order: Assignment, kind: str, seed: int, a: float, b: float) -> Adapter:
    """Return factors of one kind for an order, A and B of these sizes; A is the start's where it is not trained."""
    random = np.random.default_rng(seed)
    first = next(iter(order.start))
    return Adapter(
        {
            n: _factors(f, kind if n == first or kind != "one module" else "no move", random, a, b, order.trains)
            for n, f in order.start.items()
        }
    )


def _factors(start: Factors, kind: str, random: np.random.Generator, a: float, b: float, trains: str) -> Factors:
    if kind == "no move":
        return start
    left, right = b * random.standard_normal(start.b.shape), a * random.standard_normal(start.a.shape)
    if kind == "gauge":
        right = right / (a * b)
    if kind == "cancelling" and start.rank > 1:
        left[:, 1:] = -left[:, :1]
        right[1:] = right[:1] / (start.rank - 1)
    if kind == "deficient":
        left[:, 1:] = left[:, :1]
    return Factors(_sendable(start.a if trains == "b" else right), _sendable(left))


def _sendable(array: Array) -> Array:
    return np.clip(array, -LARGEST, LARGEST).astype("f4")


def is_valid(order: Assignment, sent: Adapter) -> bool:
    """Return whether the server would accept them: their norm is finite in float32."""
    return change_norm(sent, order.start) < LARGEST
