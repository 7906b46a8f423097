"""The request for energies of modules and its reply; it is a message of the kind `evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Annotated, Self

from common.protocol.assignment import Training
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.protocol.values import InvalidValue, Rule

MODULE_ENERGIES = "module-energies"
"""What such a request asks for."""
BATCHES = 8
"""Batches of a node behind its energies: its first ones."""
LARGEST_SUM = 1.0
"""What the energies of a node add up to at most: a node's vote counts no more than that, whatever its rows are."""
_DIGITS = 3
"""Significant digits of an energy."""


@dataclass(frozen=True, kw_only=True)
class EnergiesReply(RoundId):
    """A node's reply.

    Args:
        energies: ||G||^2 of each module in order of name, clipped: together at most `LARGEST_SUM`.
        parameters: of the base model.
    """

    energies: Annotated[list[float], Rule(list, items=float)]
    parameters: Annotated[int, Rule(int, low=1)]

    @classmethod
    def from_reply(cls, reply: Payload, count: int) -> Self:
        """Read a reply that has energies of `count` modules.

        Raises:
            InvalidValue: a value is missing or of another form, or the energies are none or too large.
        """
        read = cls.from_values(reply.values)
        # Rounding can raise each energy by half a unit of its last digit.
        most = LARGEST_SUM * (1 + 10.0 ** (1 - _DIGITS))
        # Each before their sum, which overflows if they are huge.
        valid = all(0 <= each <= most for each in read.energies)
        if len(read.energies) != count or not valid or fsum(read.energies) > most:
            raise InvalidValue("energies", "malformed")
        return read


def planning_batches(training: Training, rate: float) -> Training:
    """Return the settings of the passes behind energies, which are of round 0, at the rate of a new head."""
    return replace(training, learning_rates=(rate,) * BATCHES, round=0)


def clip_energies(energies: Sequence[float]) -> list[float]:
    """Return energies that add up to `LARGEST_SUM` at most, in a few digits: finer ones would tell more of the rows."""
    total = fsum(energies)
    factor = LARGEST_SUM / total if total > LARGEST_SUM else 1.0
    return [float(f"{factor * each:.{_DIGITS}g}") for each in energies]
