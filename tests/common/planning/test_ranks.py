"""Ranks under a budget: D'Hondt's rule against an oracle, within the budget, and whatever the order of the modules."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError
from common.planning.ranks import assign_ranks, check_budget, trained_parameters

SIZES = st.integers(1, 12)
MODULES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(st.floats(0, 10), SIZES, SIZES),
    min_size=1,
    max_size=6,
).filter(lambda found: any(energy for energy, *_ in found.values()))


def split(modules):
    return {n: e for n, (e, *_) in modules.items()}, {n: (d, k) for n, (_, d, k) in modules.items()}


def by_seats(energies, shapes, largest, budget):
    """Give ranks by the same rule, looking at all modules for each."""
    ranks, out = dict.fromkeys(energies, 0), set()
    while left := sorted(
        (-sqrt(energies[n]) / (sum(shapes[n]) * (ranks[n] + 1)), n)
        for n in energies
        if energies[n] and ranks[n] < min(largest, *shapes[n]) and n not in out
    ):
        name = left[0][1]
        if trained_parameters(ranks, shapes) + sum(shapes[name]) > budget:
            out.add(name)
        else:
            ranks[name] += 1
    return ranks


@given(MODULES, st.integers(1, 8), st.integers(0, 200))
def test_the_rule_is_dhondts(modules, largest, spare):
    energies, shapes = split(modules)
    budget = min(map(sum, shapes.values())) + spare
    found = assign_ranks(energies, shapes, largest, budget)
    assert found == by_seats(energies, shapes, largest, budget)
    assert found == assign_ranks(dict(reversed(energies.items())), shapes, largest, budget)


@given(MODULES, st.integers(1, 8), st.integers(0, 200))
def test_no_rank_more_could_be_paid(modules, largest, spare):
    energies, shapes = split(modules)
    budget = min(map(sum, shapes.values())) + spare
    ranks = assign_ranks(energies, shapes, largest, budget)
    spent = trained_parameters(ranks, shapes)
    assert spent <= budget
    assert all(0 <= rank <= min(largest, *shapes[name]) for name, rank in ranks.items())
    raisable = [n for n, rank in ranks.items() if energies[n] and rank < min(largest, *shapes[n])]
    assert all(spent + sum(shapes[name]) > budget for name in raisable)
    assert all(not ranks[name] for name, energy in energies.items() if not energy)


def test_a_larger_gradient_gets_a_higher_rank_at_the_same_price():
    shapes = dict.fromkeys("abc", (10, 10))
    assert assign_ranks({"a": 9.0, "b": 1.0, "c": 0.0}, shapes, 8, 80) == {"a": 3, "b": 1, "c": 0}
    assert assign_ranks({"a": 9.0, "b": 1.0, "c": 0.0}, {**shapes, "a": (100, 10)}, 8, 80) == {"a": 0, "b": 4, "c": 0}


@pytest.mark.parametrize("budget", [0, 1, 11])
def test_less_than_one_rank_is_refused_with_the_least_that_would_do(budget):
    shapes = {"a": (8, 8), "b": (4, 8)}
    with pytest.raises(ConfigError, match=r"below one rank of the smallest module, which has 12; raise it to 12 "):
        assign_ranks({"a": 1.0, "b": 1.0}, shapes, 4, budget)
    check_budget(12, shapes)
    assert assign_ranks({"a": 1.0, "b": 1.0}, shapes, 4, 12) == {"a": 0, "b": 1}


def test_a_module_without_a_gradient_is_not_what_a_budget_is_for():
    shapes = {"a": (2, 2), "b": (20, 20)}
    with pytest.raises(ConfigError, match=r"budget = 10: 10 parameters are below one rank of .*, which has 40"):
        assign_ranks({"a": 0.0, "b": 1.0}, shapes, 8, 10)
    assert assign_ranks({"a": 0.0, "b": 1.0}, shapes, 8, 40) == {"a": 0, "b": 1}


def test_no_gradient_anywhere_is_refused():
    with pytest.raises(ConfigError, match="no module that may be adapted has a gradient"):
        assign_ranks({"a": 0.0}, {"a": (4, 4)}, 4, 100)
