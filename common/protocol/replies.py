"""Replies of a node: each is the round that was asked for, repeated, and what the node reports.

A new field needs three lines: here, where the node measures it, and in `MAY_LEAVE` of client/policy.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from common.protocol.messages import RoundId
from common.protocol.values import Real, Rule, Whole

MAX_COUNT = 10**9
"""Largest number of rows or tokens that a client may report for one round."""

SIGNATURE = ("roster", "nonce", "signature")
"""Values that sign a reply; a simulation's have none."""

Count = Annotated[int, Rule(int, "weight", 1, MAX_COUNT)]


@dataclass(frozen=True, kw_only=True)
class TrainReply(RoundId):
    """The reply to a request to train; the factors are beside it.

    Args:
        examples: rows used, with repetition.
        tokens: tokens that carried loss (rows, for classification), with repetition.
        loss: mean training loss over the steps.
        noise: of a compressed gradient: the sum of the variances of its numbers before it was compressed, as estimated
            from its two half-batches; 0 for an update, and where there is only one row.
    """

    examples: Count
    tokens: Count
    loss: Real
    noise: Annotated[float, Rule(float, low=0, optional=True)] = 0.0


@dataclass(frozen=True, kw_only=True)
class LossReply(RoundId):
    """The reply to a request to evaluate a global update.

    Args:
        loss: mean loss on the rows that the node holds out.
        count: number of tokens (rows, for classification) in it.
    """

    loss: Real
    count: Whole


def train_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a valid `TrainReply`, and its signature, without any others that a node may add."""
    names = {*(each.name for each in fields(TrainReply)), *SIGNATURE}
    return {name: value for name, value in values.items() if name in names and type(value) in (str, int, float)}
