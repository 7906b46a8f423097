"""Evaluation costs at most its share of a run where that is possible, and is as frequent as that allows."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.settings.evaluation import SHARE, affordable_interval, evaluation_interval, held_out_count
from common.settings.recipe import Server, Train

ROWS = [640] * 8


def share(rounds, trained, evaluated, interval):
    """Return the share of evaluations in the cost of a run, with round 0 and the last round."""
    times = len({*range(0, rounds + 1, interval), rounds})
    return times * evaluated / (times * evaluated + trained)


@given(st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 10**5))
def test_evaluation_costs_at_most_its_share_and_one_round_less_would_cost_more(rounds, trained, evaluated):
    interval = affordable_interval(rounds, trained, evaluated)
    assert 1 <= interval <= rounds
    assume(share(rounds, trained, evaluated, rounds) <= SHARE)
    assert share(rounds, trained, evaluated, interval) <= SHARE + 1e-12
    assert interval == 1 or share(rounds, trained, evaluated, 1) > SHARE


def test_a_run_too_short_for_its_share_evaluates_first_and_last():
    assert affordable_interval(10, 1, 1000) == 10


def test_every_round_is_evaluated_where_that_is_cheap():
    assert affordable_interval(10, 10**6, 1) == affordable_interval(10, 10**6, 0) == 1


def test_the_cost_is_that_of_all_clients_of_a_round_and_of_all_held_out_rows():
    train = Train(rounds=48, steps=2, batch=16)
    # Trained 48 x 8 x 2 x 16 rows, each for 1.5; evaluated 8 x 64 held-out rows and 300: 4 times cost 15 %.
    assert evaluation_interval(train, Server(), ROWS, 300, phases=1) == 16
    assert evaluation_interval(train, Server(), ROWS, 300, phases=2) == 7
    assert evaluation_interval(train, Server(), ROWS, 0, phases=1) == 10
    assert evaluation_interval(train, Server(cohort=4), ROWS, 300, phases=1) == 48
    # A cohort of 2 and the next one evaluate: 4 of 8 nodes.
    assert evaluation_interval(train, Server(cohort=2), ROWS, 0, phases=1) == 24
    assert evaluation_interval(train, Server(cohort=9), ROWS, 300, phases=1) == 16


@pytest.mark.parametrize("every", [1, 5, 100])
def test_a_number_is_taken_as_it_is(every):
    assert evaluation_interval(Train(rounds=9), Server(evaluate_every=every), ROWS, 10**9, 1) == every


@pytest.mark.parametrize(("rows", "held"), [(0, 0), (1, 0), (2, 1), (10, 1), (25, 2), (640, 64), (10**6, 64)])
def test_a_tenth_is_held_out_but_never_all(rows, held):
    assert held_out_count(rows) == held
