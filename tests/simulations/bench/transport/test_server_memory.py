from dataclasses import replace

import pytest

from simulations.bench.measure import GateError
from simulations.bench.transport.server_memory import ROUNDS, Held, compare, exact

HELD = Held(growth=5, sent=2, kept=3, worst=1e-15, counted=2, nodes=2)


def test_real_rounds_are_run_and_compared_with_what_they_leave():
    row = compare({"ada": 2, "bob": 4}, 3, 64)
    rank = 4 * 4  # of the global factors; the updates have 6 directions a round
    kept = 6 * ROUNDS
    assert row.theirs == 3 * (2 * 64 * rank * 3 * 4) + 2 * 64 * kept * 3 * 8
    assert row.ours > 0
    assert row.at_most == 1.0
    assert "2 of 2 updates count" in row.gate


def test_an_inexact_round_or_a_missing_update_is_refused():
    assert exact(HELD)
    for wrong in (replace(HELD, worst=1e-5), replace(HELD, worst=float("nan")), replace(HELD, counted=1)):
        with pytest.raises(GateError, match="updates count"):
            exact(wrong)
