"""The sample of nodes that train in a round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rounds.cohorts import sample_cohort

NAMES = [f"node-{i}" for i in range(20)]


@given(st.permutations(NAMES), st.integers(1, 19), st.integers(0, 9), st.integers(1, 99))
def test_a_cohort_depends_on_names_seed_and_round_alone(names, size, seed, number):
    chosen = sample_cohort(names, size, seed, number)
    assert chosen == sample_cohort(NAMES, size, seed, number) == tuple(sorted(set(chosen)))
    assert len(chosen) == size
    assert set(chosen) < set(NAMES)


def test_other_rounds_and_seeds_choose_others():
    assert len({sample_cohort(NAMES, 5, 0, number) for number in range(1, 50)}) > 40
    assert len({sample_cohort(NAMES, 5, seed, 1) for seed in range(50)}) > 40


def test_every_node_gets_its_turn():
    turns = [name for number in range(1, 401) for name in sample_cohort(NAMES, 5, 0, number)]
    assert all(60 < turns.count(name) < 140 for name in NAMES)  # 100 on average


@pytest.mark.parametrize("size", [None, 3, 4])
def test_all_train_if_no_fewer_are_asked_for(size):
    assert sample_cohort(["cyd", "ada", "bob"], size, 0, 1) == ("ada", "bob", "cyd")
