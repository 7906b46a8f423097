"""Where a rule begins: at an adapter of any rank, exactly, or as much of it as the broadcast may have."""

from dataclasses import replace

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import encode_adapter
from common.adapters.joined import join_adapters
from common.errors import ConfigError
from server.algorithms import ALGORITHMS
from server.metrics.exactness import measure_state
from tests.helpers.common.models import random_factors
from tests.helpers.server import oracle
from tests.helpers.server.oracle import SHAPES, distance, make, product, send, size

RANKS = {"square": 4, "tall": 3, "tiny": 2}
"""Of the modules that begin at something; `wide` begins at zero."""
SUMS = ("fedlin", "fedsgd", "increments")
"""Rules that keep a sum, which may be of any rank."""
FACTORS = ("fedit", "hetlora")
"""Rules whose whole state is one pair of factors at the largest rank of a node."""


def adapter(ranks=None, seed=0):
    rng = np.random.default_rng(seed)
    return Adapter({name: random_factors(rng, SHAPES[name], rank) for name, rank in (ranks or RANKS).items()})


def dense_start(start):
    return {name: np.zeros(shape) for name, shape in SHAPES.items()} | product(start)


def relative(update, start):
    return distance(product(update), dense_start(start)) / size(dense_start(start))


def bits(state):
    return encode_adapter(join_adapters(**state.parts), "f64")


def test_every_rule_is_tested_here():
    assert sorted((*SUMS, *FACTORS)) == sorted(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_round_0_is_the_adapter(name):
    rule, start = make(name, (4,)), adapter()
    state = rule.initial(SHAPES, start)
    assert (state.round, state.dropped) == (0, 0.0)
    for update in (rule.broadcast_update(state), rule.total_update(state)):
        assert relative(update, start) <= 1e-6
    assert relative(rule.broadcast_update(rule.initial(SHAPES)), start) > 0.9  # control


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_other_coordinates_of_the_adapter_are_the_same_start(name):
    rng, start = np.random.default_rng(1), adapter()
    turned = {}
    for module, factors in start.items():
        q = np.linalg.qr(rng.standard_normal((factors.rank, factors.rank)))[0] * rng.uniform(0.5, 2, factors.rank)
        turned[module] = Factors(np.linalg.solve(q, factors.a), factors.b @ q)
    one, two = (make(name, (4,)).initial(SHAPES, each) for each in (start, Adapter(turned)))
    sent = [make(name, (4,)).broadcast_update(state) for state in (one, two)]
    assert distance(*map(product, sent)) <= 1e-6 * size(product(sent[0]))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_run_without_an_adapter_begins_with_the_bits_of_before(name):
    assert bits(make(name, (4,)).initial(SHAPES)) == bits(make(name, (4,)).initial(SHAPES, Adapter()))


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_round_goes_on_from_the_adapter(name):
    rule = make(name, (4,))
    before = rule.initial(SHAPES, adapter())
    sent = send(rule, before, [4, 4])
    after = oracle.reduce(rule, before, sent)
    if name == "fedsgd":  # the first step of Adam moves each number of B by about the rate
        assert relative(rule.total_update(after), adapter()) < 0.1
    elif name in SUMS:
        truth = {module: dense_start(adapter())[module] + oracle.delta(sent, module) for module in SHAPES}
        assert distance(product(rule.total_update(after)), truth) <= 1e-6 * size(truth)
    else:
        assert oracle.dense_aggregation_error(rule, before, after, sent) < 1


@pytest.mark.parametrize("name", SUMS)
def test_what_rank_global_leaves_out_stays_in_the_sum(name):
    rule, start = make(name, (2,), rank_global=2), adapter()
    state = rule.initial(SHAPES, start)
    best = {module: _truncated(matrix, 2) for module, matrix in dense_start(start).items()}
    assert relative(rule.total_update(state), start) <= 1e-6
    assert distance(product(rule.broadcast_update(state)), best) <= 1e-6 * size(best)
    told = measure_state(rule, state)
    assert told.residual == pytest.approx(relative(rule.broadcast_update(state), start), rel=1e-5)
    assert told.residual > 0.1
    shared = 2 if name == "fedsgd" else 0  # columns that are still zero, beside G
    assert (told.rank_global, told.dropped, told.aggregation_error) == (2 + shared, 0.0, None)


@pytest.mark.parametrize("name", SUMS)
def test_what_rank_kept_drops_for_good_is_counted(name):
    rule, start = make(name, (1,), rank_global=1, rank_kept=2), adapter()
    state = rule.initial(SHAPES, start)
    best = {module: _truncated(matrix, 2) for module, matrix in dense_start(start).items()}
    lost = distance(best, dense_start(start))
    assert distance(product(rule.total_update(state)), best) <= 1e-6 * size(best)
    assert state.dropped == pytest.approx(lost, rel=1e-6)
    assert measure_state(rule, state).dropped == pytest.approx(lost / size(best), rel=1e-6)


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_what_a_narrow_wire_rounds_stays_in_the_sum(name, wire):
    rule, start = make(name, (4,), wire=wire), adapter()
    state = rule.initial(SHAPES, start)
    assert relative(rule.total_update(state), start) <= 1e-6
    assert 1e-6 < measure_state(rule, state).residual < 0.05


def test_a_change_of_low_rank_does_not_cut_the_start():
    rule, start = make("increments", (4,), rank_global=8, rank_change=1), adapter()
    assert relative(rule.broadcast_update(rule.initial(SHAPES, start)), start) <= 1e-6


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize(("ranks", "options"), [((3,), {}), ((4,), {"wire": "bfloat16"}), ((4,), {"wire": "int8"})])
def test_a_rule_of_factors_refuses_what_they_cannot_hold(name, ranks, options):
    with pytest.raises(ConfigError, match=rf'adapter has rank 4, but algorithm = "{name}" .* set algorithm = "incr'):
        make(name, ranks, **options).initial(SHAPES, adapter())
    make(name, ranks, **options).initial(SHAPES)


@pytest.mark.parametrize("name", FACTORS)
def test_a_rule_of_factors_takes_a_lower_rank_in_larger_factors(name):
    """As a finished head is: the identity and the difference."""
    start = adapter()
    wide = Factors(start["tiny"].b.astype("f8") @ start["tiny"].a.astype("f8"), np.eye(4))
    rule = make(name, (4,))
    state = rule.initial(SHAPES, Adapter({**start, "tiny": wide}))
    assert relative(rule.broadcast_update(state), start) <= 1e-6
    assert state.parts["global"]["tiny"].rank == 4


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_adapter_of_zeros_is_no_update(name):
    rule, start = make(name, (4,)), adapter()
    still = Adapter({module: replace(factors, b=np.zeros_like(factors.b)) for module, factors in start.items()})
    assert size(product(rule.broadcast_update(rule.initial(SHAPES, still)))) == 0


def _truncated(matrix, rank):
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vt[:rank]
