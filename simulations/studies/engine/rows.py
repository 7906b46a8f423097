"""The table of a comparison of methods: parameters, chosen rate, accuracy and loss."""

from collections.abc import Mapping, Sequence

import numpy as np

from simulations.studies.engine.estimate import Estimate, estimate
from simulations.studies.engine.outcomes import Outcome
from simulations.studies.engine.study import Outcomes

COLUMNS = "method", "parameters", "rate", "test accuracy", "loss"


def accuracies(found: Outcomes) -> Mapping[str, Estimate]:
    """Return the accuracy of each arm over its seeds."""
    return {name: estimate([each.accuracy for each in outcomes]) for name, outcomes in found.items()}


def method_rows(found: Outcomes) -> list[list[str]]:
    """Return a row for each arm."""
    return [_row(name, outcomes) for name, outcomes in found.items()]


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    first = outcomes[0]
    loss = float(np.mean([each.loss for each in outcomes]))
    accuracy = estimate([each.accuracy for each in outcomes])
    return [name, f"{first.parameters:,}", f"{first.rate:g}", str(accuracy), f"{loss:.3f}"]
