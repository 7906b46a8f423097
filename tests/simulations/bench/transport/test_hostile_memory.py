from dataclasses import replace

import pytest

from simulations.bench.measure import GateError, run_in_fresh_process
from simulations.bench.transport import hostile_memory
from simulations.bench.transport.deployment import make_project
from simulations.bench.transport.hostile_memory import ATTACKS, BOUND, HONEST, HOSTILE, TAKEN, compare, grow

SIZE = 64 * 2**20
LARGE, TWO, GZIP = ATTACKS


@pytest.fixture
def project(tmp_path):
    make_project(tmp_path, [HONEST, *HOSTILE])
    return tmp_path


@pytest.mark.parametrize("attack", ATTACKS, ids=["one", "two", "gzip"])
def test_an_attack_is_refused_and_the_honest_reply_counts(project, attack):
    row = compare(project, attack)
    assert (row.theirs, row.at_most) == (BOUND, 1.0)
    assert row.gate.startswith(f"1 of {1 + attack.nodes} replies count, the honest one; ")
    assert row.gate.endswith(f"hostile nodes are told: {attack.refusal}")


def test_what_was_ordered_is_taken_and_the_server_grows_by_it(project):
    attack = replace(LARGE, size=SIZE, ordered=SIZE)
    growth, counted, told = run_in_fresh_process(grow, project, attack)  # whose heap has nothing freed in it
    assert (counted, told) == (2, {TAKEN})
    assert growth > SIZE


def test_another_end_than_that_of_the_attack_is_refused(project):
    with pytest.raises(GateError, match="2 of 2 replies count"):
        compare(project, replace(LARGE, size=100))


@pytest.mark.slow
def test_the_server_grows_by_little():
    assert all(row.holds for row in hostile_memory.measure())
