"""An order states the exact bytes of the reply that it allows."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment, Training, Update
from common.protocol.messages import assignment_values, pack_update
from tests.helpers.common.buffers import random_adapter

SHAPES = {"layers.0.q": (6, 5, 2), "v": (4, 8, 2), "ü": (3, 3, 0)}
SENT = random_adapter(SHAPES, seed=1)


@pytest.mark.parametrize("trains", ["both", "a", "b"])
@pytest.mark.parametrize("returns", ["update", "gradient"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_it_is_the_length_of_the_packed_update(trains, returns, dtype):
    start = Adapter({name: Factors(f.a, np.zeros_like(f.b)) for name, f in random_adapter(SHAPES).items()})
    order = Assignment(SENT, start.astype(dtype), trains, returns=returns)
    stated = assignment_values(order, Training((0.1,), 1))["reply_bytes"]
    assert stated == len(pack_update(Update(SENT, 1, 1, 0.5), trains))


def test_what_is_only_lent_is_not_counted():
    stated = {
        trains: assignment_values(Assignment(Adapter(), SENT, trains), Training((0.1,), 1))["reply_bytes"]
        for trains in ("both", "b")
    }
    lent = sum(4 * factors.a.size for factors in SENT.values())
    assert stated["b"] < stated["both"] - lent + 64
