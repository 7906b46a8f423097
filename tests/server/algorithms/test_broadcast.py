"""The broadcast is what was sent and a change; what a change leaves out comes later, and the sum stays exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.codec import encode_adapter
from common.adapters.joined import leading_ranks
from common.adapters.rounding import STORED, WIRES
from common.errors import ConfigError
from common.settings.recipe import Train
from server.metrics.exactness import broadcast_gap
from tests.helpers.server import oracle
from tests.helpers.server.oracle import dense_aggregation_error, distance, make, product, send, size

COHORT = (1, 2, 4, 8)
SHAPES = {"square": (24, 24), "tall": (30, 10), "wide": (10, 40)}
WIRE = pytest.mark.parametrize("wire", WIRES)


def states(algorithm, rounds, cohort=COHORT):
    """Yield the state before each round, what was sent in it, and the state after."""
    state = algorithm.initial(SHAPES)
    for _ in range(rounds):
        sent = send(algorithm, state, cohort)
        after = oracle.reduce(algorithm, state, sent)
        yield state, sent, after
        state = after


def growing(**options):
    return make(ranks=COHORT, **{"rank_change": 4, "rank_global": 20, "train": Train(rounds=40)} | options)


def ranks_of(adapter):
    return tuple(factors.rank for factors in adapter.values())


@WIRE
def test_a_change_is_behind_what_was_sent_and_the_sum_is_exact(wire):
    grown = []
    for before, sent, after in states(growing(wire=wire), 12):
        old, new = before.parts["global"], after.parts["global"]
        grown.append(new.rank)
        if new.rank > old.rank:
            assert encode_adapter(leading_ranks(new, ranks_of(old))) == encode_adapter(old)
        assert dense_aggregation_error(growing(wire=wire), before, after, sent) <= 1e-6
    assert grown == [4, 8, 12, 16, 20, 10, 14, 18, 10, 14, 18, 10]


def test_what_a_change_leaves_out_comes_later():
    """Nobody moves after three rounds: G reaches S, as one truncation of the same rank would not."""
    algorithm = growing(rank_global=80)
    *_, (_, _, state) = states(algorithm, 3)
    gaps = []
    for _ in range(14):
        gaps.append(broadcast_gap(algorithm.total_update(state), state.parts["global"]))
        state = oracle.reduce(algorithm, state, still(algorithm, state))
    assert gaps[0] > 0.3
    assert gaps[-1] < 1e-6


def still(algorithm, state):
    """Return replies of nodes that have not moved."""
    return [_unmoved(algorithm, state, each) for each in send(algorithm, state, COHORT)]


def _unmoved(algorithm, state, sent):
    blob = encode_adapter(sent.assignment.start, STORED[sent.assignment.wire])
    return type(sent)(sent.rank, sent.share, sent.assignment, blob)


@WIRE
def test_rounding_is_made_up_for_by_the_next_change(wire):
    """The control is a broadcast of the same rank whose rounding is not made up for."""
    algorithm = growing(wire=wire, rank_global=80)
    *_, (_, _, state) = states(algorithm, 3)
    for _ in range(16):
        state = oracle.reduce(algorithm, state, still(algorithm, state))
    mass = algorithm.total_update(state)
    once = {name: algorithm.settings.rounded(f, "once", name) for name, f in mass.items()}
    apart = distance(product(state.parts["global"]), product(mass)) / size(product(mass))
    assert (
        apart <= 1e-6
        if wire == "float32"
        else apart < 0.2 * distance(product(once), product(mass)) / size(product(mass))
    )


@WIRE
@pytest.mark.parametrize("algorithm", ["increments", "fedlin", "fedsgd", "fedit", "hetlora"])
def test_all_that_is_assigned_is_held_by_the_wire(algorithm, wire):
    cohort = (4, 4) if algorithm == "fedit" else COHORT
    rule = make(algorithm, cohort, wire=wire)
    for _, sent, after in states(rule, 3, cohort):
        for adapter in (rule.broadcast_update(after), *(each.assignment.start for each in sent)):
            for name, factors in adapter.items():
                again = algorithm_rounded(rule, factors, name)
                assert np.array_equal(again.a, factors.a)
                assert np.array_equal(again.b, factors.b)


def algorithm_rounded(rule, factors, name):
    """Return factors rounded by another key: unchanged where the wire holds them."""
    return rule.settings.rounded(factors, "other", name)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(16, 40), st.sampled_from(WIRES))
def test_no_list_is_larger_than_the_rank_of_the_broadcast(change, rank, wire):
    for _, _, after in states(growing(rank_change=change, rank_global=rank, wire=wire), 6):
        assert after.parts["global"].rank <= rank


def test_the_last_round_sends_a_whole_of_all_the_rank():
    ranks = [after.parts["global"].rank for _, _, after in states(growing(train=Train(rounds=4)), 4)]
    assert ranks == [4, 8, 12, 20]


@pytest.mark.parametrize("algorithm", ["increments", "fedsgd"])
def test_a_change_of_more_than_half_the_rank_is_refused(algorithm):
    with pytest.raises(ConfigError, match=r"rank_change = 11 is more than half of rank_global = 20.*lower rank_change"):
        growing(algorithm=algorithm, rank_change=11)
    growing(algorithm=algorithm, rank_change=10)


@pytest.mark.parametrize("algorithm", ["fedit", "hetlora"])
def test_a_rule_without_a_broadcast_of_a_sum_has_no_change(algorithm):
    with pytest.raises(ConfigError, match=r'rank_change = 4, but algorithm = "\w+" has no such setting'):
        make(algorithm, (4, 4), rank_change=4)


def test_folds_of_fedsgd_are_changes():
    algorithm = make("fedsgd", COHORT, hold=2, rank_change=8, rank_global=32, train=Train(rounds=40))
    ranks = [after.parts["global"].rank for _, _, after in states(algorithm, 8)]
    assert ranks == [0, 8, 8, 16, 16, 24, 24, 32]
