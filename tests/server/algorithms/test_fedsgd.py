"""FedSGD against dense float64 gradients: sums, cohorts, the optimizer's step, and directions beyond the first A."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from common.adapters.gradient import compress, gradient_form
from common.errors import ConfigError
from common.protocol.assignment import RankPattern
from common.seeding import rng
from common.settings.recipe import Train
from server.algorithms import WeightedUpdate
from tests.helpers.server.oracle import make

SHAPES = {"one": (12, 10), "two": (5, 7)}
RANK = 4
STEADY = Train(rounds=6, lr=0.1, schedule="constant", warmup=0, clip=0)


def fedsgd(train=STEADY, **options):
    return make("fedsgd", (RANK,), train=train, **options)


def forms(algorithm, state, rank=64):
    order = algorithm.assign(state, "node", RankPattern(rank))
    return gradient_form(order.start, order.trains, order.reply_rank)


def drawn(form, *key, rank=64):
    """Return a gradient of noise in this form, as it is sent at a rank."""
    return {side: rng(side, *key).standard_normal(f.shape) for side, f in form.items()}


def reply(gradient, share, rank=64):
    return WeightedUpdate(share, rank, Adapter({side: compress(g, rank) for side, g in gradient.items()}))


def dense(adapter):
    return {name: f.b.astype("f8") @ f.a.astype("f8") for name, f in adapter.items()}


def summed(algorithm, state):
    return dense(algorithm.summed(state))


def distance(one, other):
    size = np.sqrt(sum(np.sum(other[name] ** 2) for name in other))
    return np.sqrt(sum(np.sum((one[name] - other[name]) ** 2) for name in other)) / size


def weighted_mean(gradients, counts):
    return {
        side: sum(n * g[side] for n, g in zip(counts, gradients, strict=True)) / sum(counts) for side in gradients[0]
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from(["adam", "sgd"]),
    st.sampled_from(["both", "b"]),
    st.sampled_from([0.0, 0.5]),
)
def test_clients_and_one_with_the_union_of_their_rows_take_the_same_steps_for_any_split(sizes, optimizer, mode, clip):
    train = Train(rounds=6, lr=0.1, clip=clip)
    algorithm = fedsgd(train, optimizer=optimizer, mode=mode, alpha=8)
    several = pooled = algorithm.initial(SHAPES)
    for number in range(3):
        form = forms(algorithm, several)
        rows = [drawn(form, number, row) for row in range(sum(sizes))]
        ends = np.cumsum(sizes)
        parts = [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        replies = [reply(weighted_mean(part, [1] * len(part)), len(part) / len(rows)) for part in parts]
        several = algorithm.reduce(several, replies)
        pooled = algorithm.reduce(pooled, [reply(weighted_mean(rows, [1] * len(rows)), 1.0)])
        assert distance(dense(algorithm.total_update(several)), dense(algorithm.total_update(pooled))) < 1e-6
        assert several.step == number + 1


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_mean_over_all_cohorts_of_a_size_is_the_sum_of_everybody_with_equal_weights(size):
    algorithm = fedsgd()
    state = algorithm.initial(SHAPES)
    gradients = [drawn(forms(algorithm, state), node) for node in range(5)]
    cohorts = list(combinations(gradients, size))
    found = [summed(algorithm, algorithm.reduce(state, [reply(g, 1 / size) for g in each])) for each in cohorts]
    mean = weighted_mean(found, [1] * len(found))
    assert distance(mean, weighted_mean(gradients, [1] * 5)) < 1e-6


def test_with_unequal_weights_renormalised_shares_are_biased_towards_small_nodes():
    """Cohorts of 2 of 5 nodes of 1 to 16 rows: a node of few rows weighs more than its share of all rows."""
    algorithm, rows = fedsgd(), [1, 2, 4, 8, 16]
    state = algorithm.initial(SHAPES)
    gradients = [drawn(forms(algorithm, state), node) for node in range(5)]
    pairs = list(combinations(range(5), 2))
    weight = np.zeros(5)
    for pair in pairs:
        for node in pair:
            weight[node] += rows[node] / sum(rows[other] for other in pair) / len(pairs)
    found = [
        summed(
            algorithm,
            algorithm.reduce(state, [reply(gradients[i], rows[i] / sum(rows[j] for j in pair)) for i in pair]),
        )
        for pair in pairs
    ]
    assert distance(weighted_mean(found, [1] * len(pairs)), weighted_mean(gradients, weight)) < 1e-6
    bias = distance(weighted_mean(found, [1] * len(pairs)), weighted_mean(gradients, rows))
    assert weight[0] / (rows[0] / sum(rows)) == pytest.approx(2.18, abs=0.01)
    assert 0.2 < bias < 0.6


def test_a_step_of_adam_is_that_of_pytorch():
    algorithm = fedsgd(mode="both", betas=(0.8, 0.9), alpha=2 * RANK)
    state = algorithm.initial(SHAPES)
    s = algorithm.scaling
    held = {name: (torch.tensor(f.a), torch.tensor(f.b) / s) for name, f in state.parts["shared"].items()}
    leaves = {
        (side, n): v.clone().requires_grad_() for n, pair in held.items() for side, v in zip("ab", pair, strict=True)
    }
    optimizer = torch.optim.Adam(leaves.values(), lr=0.1, betas=(0.8, 0.9))
    for number in range(4):
        gradient = drawn(forms(algorithm, state), number)
        for (side, name), leaf in leaves.items():
            g = gradient[f"{side}/{name}"].astype("f4").astype("f8")
            leaf.grad = torch.tensor(g.T if side == "a" else s * g)
        optimizer.step()
        state = algorithm.reduce(state, [reply(gradient, 1.0)])
    for name, factors in state.parts["shared"].items():
        assert np.allclose(factors.a, leaves["a", name].detach(), rtol=1e-9)
        assert np.allclose(factors.b, s * leaves["b", name].detach(), rtol=1e-9)


def test_clip_bounds_the_sum_and_not_the_replies():
    algorithm = fedsgd(Train(rounds=6, lr=1.0, schedule="constant", warmup=0, clip=0.5), optimizer="sgd", mode="b")
    state = algorithm.initial(SHAPES)
    one = drawn(forms(algorithm, state), 1)
    other = {side: -g for side, g in one.items()}
    moved = algorithm.reduce(state, [reply(one, 1.0)])
    size = np.sqrt(sum(np.sum(f.b**2) for f in moved.parts["shared"].values()))
    assert size == pytest.approx(0.5, rel=1e-6)
    still = algorithm.reduce(state, [reply(one, 0.5), reply(other, 0.5)])
    assert not any(f.b.any() for f in still.parts["shared"].values())


def test_mode_b_keeps_a_and_asks_for_no_gradient_by_it():
    algorithm = fedsgd(mode="b")
    state = algorithm.initial(SHAPES)
    assert set(forms(algorithm, state)) == {"b/one", "b/two"}
    after = algorithm.reduce(state, [reply(drawn(forms(algorithm, state), 1), 1.0)])
    assert all(np.array_equal(f.a, state.parts["shared"][n].a) for n, f in after.parts["shared"].items())
    assert all(f.b.any() for f in after.parts["shared"].values())


def _run(algorithm, rounds):
    states = [algorithm.initial(SHAPES)]
    for number in range(rounds):
        gradient = drawn(forms(algorithm, states[-1]), number)
        states.append(algorithm.reduce(states[-1], [reply(gradient, 1.0)]))
    return states


@pytest.mark.parametrize("mode", ["b", "both"])
def test_after_two_new_draws_the_update_has_left_the_span_of_its_first_directions(mode):
    held, drawn_anew = _run(fedsgd(mode="b"), 6), _run(fedsgd(mode=mode, hold=2), 6)
    assert len(lowrank.spectrum(fedsgd(mode="b").total_update(held[-1])["one"])) == RANK  # control
    frozen = drawn_anew[-1].parts["global"]["one"]
    assert len(lowrank.spectrum(frozen)) > 2 * RANK
    assert len(lowrank.spectrum(drawn_anew[-1].parts["global"]["two"])) == 5  # all that its shape has


def test_a_fold_changes_no_weight_and_begins_the_moments_anew():
    algorithm = fedsgd(hold=3)
    before, after = _run(algorithm, 3)[2:]
    plain = fedsgd()
    unfolded = _run(plain, 3)[3]
    assert distance(dense(algorithm.total_update(after)), dense(plain.total_update(unfolded))) < 1e-12
    assert distance(dense(algorithm.broadcast_update(after)), dense(plain.broadcast_update(unfolded))) < 1e-6
    assert (before.step, after.step) == (2, 0)
    assert not any(f.a.any() or f.b.any() for part in ("first", "second") for f in after.parts[part].values())
    assert (algorithm.memory_begins(before), algorithm.memory_begins(after)) == (0, 3)


def test_rates_warm_up_after_each_new_draw():
    train = Train(rounds=6, lr=1.0, schedule="constant", warmup=1, clip=0)
    states = _run(make("fedsgd", (RANK,), train=train, optimizer="sgd", mode="b", hold=2), 4)
    for first, second in ((0, 1), (2, 3)):
        sizes = [_step_size(states, number) for number in (first, second)]
        assert sizes == pytest.approx([0.5, 1.0], rel=1e-6)


def _step_size(states, number):
    """Return the size of a step of SGD, relative to its gradient."""
    name = "one"
    gradient = compress(drawn({f"b/{name}": Factors(np.zeros((1, 4)), np.zeros((12, 1)))}, number)[f"b/{name}"], 64)
    start = states[number].parts["shared"][name].b if number not in (2,) else 0.0
    after = states[number + 1]
    moved = after.parts["shared"][name].b - start if number not in (1, 3) else None
    if moved is None:  # folded in this round: S grew by B A, whose A has orthonormal rows
        a = states[number].parts["shared"][name].a
        grown = after.parts["mass"][name].b @ after.parts["mass"][name].a
        before = states[number].parts["mass"][name]
        moved = (grown - before.b @ before.a) @ a.T - states[number].parts["shared"][name].b
    return np.linalg.norm(moved) / np.linalg.norm(gradient.b @ gradient.a)


def test_what_a_cap_drops_at_a_fold_is_told():
    algorithm = fedsgd(hold=1, rank_global=2, rank_kept=4)
    states = _run(algorithm, 3)
    assert states[-1].parts["mass"].rank == 4
    assert states[-1].dropped > 0
    assert _run(fedsgd(hold=1), 3)[-1].dropped == 0  # control


def test_a_lower_rank_sends_less_of_the_same_gradient():
    algorithm = fedsgd()
    state = algorithm.initial({"one": (64, 64)})
    for rank, kept in ((1, 1), (2, 2), (4, 4), (16, 4)):
        form = forms(algorithm, state, rank)
        assert {side: f.rank for side, f in form.items()} == {"a/one": kept, "b/one": kept}
        assert form["b/one"].shape == (64, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_shared": 3}, "rank_shared = 3 is below the largest rank of a node, 4"),
        ({"optimizer": "sgd", "betas": (0.9, 0.99)}, "betas are Adam's"),
        ({"proximal": 0.1}, "proximal = 0.1 needs local steps"),
        ({"a": "gaussian"}, 'a = "gaussian" is for clients that train factors of their own'),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        fedsgd(**options)


@pytest.mark.parametrize("key", ["optimizer", "rank_shared", "betas"])
@pytest.mark.parametrize("algorithm", ["increments", "fedlin", "fedit", "hetlora"])
def test_other_rules_refuse_its_keys(algorithm, key):
    value = {"optimizer": "adam", "rank_shared": 8, "betas": (0.9, 0.99)}[key]
    with pytest.raises(ConfigError, match=key):
        make(algorithm, (RANK,), **{key: value})
