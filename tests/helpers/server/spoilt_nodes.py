"""Nodes in NumPy that train honestly, and send something else in some rounds."""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace

import numpy as np

from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment, Training, Update
from tests.helpers.server.exchange import NumpyNode

Change = Callable[[Assignment, Factors], Factors]
ALWAYS = range(1, 10**6)


@dataclass(frozen=True)
class SpoilingNode(NumpyNode):
    """Sends other factors than those it trained, or another count.

    Args:
        change: makes a module's factors out of the order and the trained ones.
        rounds: in which it does so.
        examples: the count that it reports; the honest one if not set.
    """

    change: Change = lambda order, factors: factors
    rounds: Container[int] = ALWAYS
    examples: int | None = None

    def train(self, assignment: Assignment, training: Training) -> Update:
        update = super().train(assignment, training)
        if training.round not in self.rounds:
            return update
        changed = Adapter({name: self.change(assignment, factors) for name, factors in update.adapter.items()})
        return replace(update, adapter=changed.astype("f4"), examples=self.examples or update.examples)


@dataclass(frozen=True)
class CopyingNode(NumpyNode):
    """Sends what the node of another name trains, in coordinates of its own if `turned`."""

    of: str = ""
    turned: bool = False

    def train(self, assignment: Assignment, training: Training) -> Update:
        update = NumpyNode(self.of, self.rank, self.rows).train(assignment, training)
        if not self.turned:
            return update
        return replace(update, adapter=Adapter({name: turn(factors) for name, factors in update.adapter.items()}))


def larger_b(times: float) -> Change:
    """Return a change that multiplies B."""
    return lambda order, factors: Factors(factors.a, times * factors.b.astype("f8"))


def larger_both(times: float) -> Change:
    """Return a change that multiplies both, or B alone where A is not trained."""

    def change(order: Assignment, factors: Factors) -> Factors:
        a = factors.a if order.trains == "b" else times * factors.a.astype("f8")
        return Factors(a, times * factors.b.astype("f8"))

    return change


def turn(factors: Factors) -> Factors:
    """Return the same product in other coordinates, in float32."""
    q = np.random.default_rng(0).standard_normal((factors.rank, factors.rank)) + 2 * np.eye(factors.rank)
    return Factors(np.linalg.solve(q, factors.a.astype("f8")), factors.b.astype("f8") @ q).astype("f4")
