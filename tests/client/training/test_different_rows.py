"""The rows that a training reads are as many as a node counts before it, for the limit of its owner."""

from dataclasses import dataclass, field, replace

import pytest

from client.objectives.examples import Examples, different_rows
from client.training.gradient_exchange import exchange_gradient
from client.training.passes import Passes
from common.protocol.assignment import Training
from tests.helpers.client.training import bench


@dataclass(frozen=True, eq=False)
class Watched(Examples):
    """Examples that note which rows are read."""

    read: set[int] = field(default_factory=set)

    def __getitem__(self, index):
        self.read.add(index)
        return super().__getitem__(index)


BENCH = bench()
ROWS = len(BENCH.rows)
"""12, in batches of at most 5: 4 of each epoch's three."""


def read(training, returns="update"):
    """Return how many different rows a training reads, and how many were counted."""
    rows = Watched(BENCH.rows.rows, BENCH.rows.objective, BENCH.rows.pad_id)
    assignment = replace(BENCH.start(trains="b"), returns=returns, reply_rank=2)
    counted = different_rows(rows, assignment, training, "clinic")
    assert not rows.read
    if returns == "compressed-gradient":
        passes = Passes(BENCH.base, BENCH.lora, assignment, "clinic", rows, training, scale=1.0)
        exchange_gradient(passes, {})
    else:
        BENCH.train(assignment, training, rows=rows)
    return len(rows.read), counted


@pytest.mark.parametrize("returns", ["update", "gradient"])
@pytest.mark.parametrize(("steps", "accumulate", "expected"), [(1, 1, 4), (2, 1, 8), (1, 2, 8), (3, 1, 12), (4, 2, 12)])
def test_a_training_reads_as_many_rows_as_were_counted(steps, accumulate, expected, returns):
    assert read(Training((1e-2,) * steps, 5, accumulate), returns) == (expected, expected)


@pytest.mark.parametrize("begin", [0, 1, 7, 11, 40])
@pytest.mark.parametrize("draw", [1, 5, 11, 12, 17, 24, 25])
def test_an_exchange_along_the_epochs_reads_as_many_rows_as_were_counted(begin, draw):
    found, counted = read(Training((1e-2,), 4, draw=draw, begin=begin), "compressed-gradient")
    assert found == counted <= min(draw, ROWS)
    assert found == ROWS or draw < 2 * ROWS


def test_two_epochs_may_share_rows():
    """So that the rows of an exchange are not the different ones: 12 of 12 that begin within an epoch."""
    assert read(Training((1e-2,), 4, draw=ROWS, begin=6), "compressed-gradient")[0] < ROWS
    assert read(Training((1e-2,), 4, draw=ROWS), "compressed-gradient")[0] == ROWS  # control
