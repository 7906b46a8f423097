"""What is evaluated: the rows that a node holds out, and the rounds after which the global update is measured on them.

Cost is counted in rows that pass through the base model, since it is the same for every run of the same settings; the
seconds of a run are not.
"""

from collections.abc import Collection
from math import ceil

from common.settings.recipe import Server, Train

SHARE = 0.15
"""Most of a run's cost that evaluation may have."""
PASSES = 1.5
"""Least cost of a row that is trained on beside one that is evaluated; measured on a CPU, 1.6 for local steps and 3.7
for gradients of few rows."""


def held_out_count(rows: int) -> int:
    """Return how many of a node's rows are held out: a tenth, at least one and at most 64, but not all."""
    return max(0, min(max(1, round(0.1 * rows)), 64, rows - 1))


def evaluation_interval(train: Train, server: Server, rows: Collection[int], test_rows: int, phases: int) -> int:
    """Return the number of rounds from one evaluation to the next.

    Args:
        train: settings of the run.
        server: the same.
        rows: of each node, those that it holds out included.
        test_rows: rows of the run's owner on which an update is evaluated too.
        phases: trainings of a client in a round.
    """
    if server.evaluate_every != "auto":
        return server.evaluate_every
    cohort = min(len(rows), server.cohort or len(rows))
    trained = train.rounds * phases * cohort * train.steps * train.batch * train.accumulate
    # The nodes of a round and of the next evaluate its update.
    share = min(1.0, 2 * cohort / max(len(rows), 1))
    return affordable_interval(train.rounds, PASSES * trained, test_rows + share * sum(map(held_out_count, rows)))


def affordable_interval(rounds: int, trained: float, evaluated: float) -> int:
    """Return the least interval at which the evaluations of a run cost at most `SHARE` of it.

    Round 0 and the last round are evaluated whatever that costs.

    Args:
        rounds: of the run.
        trained: cost of its training.
        evaluated: cost of one evaluation.
    """
    evaluations = int(SHARE / (1 - SHARE) * trained / max(evaluated, 1))
    return ceil(rounds / max(1, evaluations - 1))
