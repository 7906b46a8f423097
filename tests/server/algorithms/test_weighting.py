"""Shares: by each rule, capped, and never a node's own choice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError
from common.settings.recipe import Server
from server.algorithms import ALGORITHMS, weights_of
from server.algorithms.weighting import WEIGHTINGS, ClientUpdate, cap_shares, find_shares, weighting_named
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.exchange import dense

SHAPES = {"q": (6, 5, 2), "v": (4, 8, 2)}
weights = st.lists(st.floats(0, 1e30), min_size=1, max_size=8)
caps = st.floats(0.01, 1)


def update(name, examples=10, tokens=70, scale=1.0, seed=0):
    made = random_adapter(SHAPES, seed)
    modules = Adapter({n: Factors(f.a, np.float32(scale) * f.b) for n, f in made.items()})
    return ClientUpdate(name, 2, examples, tokens, modules)


THREE = [update("ada", 10, 300), update("bob", 30, 100, 2.0, 1), update("cyd", 60, 600, 3.0, 2)]


@pytest.mark.parametrize(
    ("rule", "expected"), [("examples", [0.1, 0.3, 0.6]), ("tokens", [0.3, 0.1, 0.6]), ("uniform", [1 / 3] * 3)]
)
def test_a_rule_that_counts_gives_the_share_of_the_count(rule, expected):
    assert find_shares(THREE, weighting_named(rule)) == pytest.approx(expected, abs=1e-15)


def test_the_norm_is_that_of_the_dense_update():
    norms = [np.sqrt(sum(np.sum(dense(f) ** 2) for f in u.modules.values())) for u in THREE]
    assert max(norms) / sum(norms) < 2 / 3
    assert find_shares(THREE, weighting_named("norm")) == pytest.approx([n / sum(norms) for n in norms], rel=1e-6)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_no_norm_buys_more_than_twice_an_equal_share(count):
    others = [update(f"n{i}", seed=i) for i in range(count - 1)]
    shares = find_shares([*others, update("evil", scale=1e6)], weighting_named("norm"))
    assert shares[-1] == pytest.approx(2 / count)
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert find_shares([*others, update("evil", scale=1e6)], weighting_named("norm"), 1.0)[-1] > 0.99  # control


def test_where_nobody_moved_all_weigh_the_same():
    assert find_shares([update("a", scale=0.0), update("b", 99, scale=0.0)], weighting_named("norm")) == [0.5, 0.5]


@pytest.mark.parametrize("rule", WEIGHTINGS)
def test_max_share_holds_for_every_rule_and_the_excess_goes_to_the_rest(rule):
    free = find_shares(THREE, weighting_named(rule), 1.0)
    shares = find_shares(THREE, weighting_named(rule), 0.4)
    assert max(shares) <= 0.4 + 1e-12
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    if max(free) > 0.4:
        assert shares != pytest.approx(free)


def test_the_roster_caps_a_share_that_the_factors_decide():
    """As if the node had reported as many examples as it may, beside what the others reported."""
    limits = {"ada": None, "bob": 10, "cyd": 10}.get
    shares = find_shares(THREE, weighting_named("norm"), 1.0, limits)
    assert shares[1] <= 10 / (10 + 70) + 1e-12
    assert shares[2] <= 10 / (10 + 40) + 1e-12
    assert sum(shares) == pytest.approx(1, abs=1e-12)
    assert find_shares(THREE, weighting_named("norm"), 1.0)[2] > 10 / 50  # control
    assert find_shares(THREE, weighting_named("examples"), 1.0, limits) == find_shares(
        THREE, weighting_named("examples"), 1.0
    )


@given(weights, caps)
def test_shares_add_up_to_one_and_keep_their_caps(weights, cap):
    cap = max(cap, 1 / len(weights))
    shares = cap_shares(weights, [cap] * len(weights))
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert max(shares) <= cap + 1e-9
    assert min(shares) >= 0


limits = st.lists(st.tuples(st.integers(1, 10**6), st.none() | st.integers(1, 10**6)), min_size=1, max_size=6)


@given(limits, st.just("auto") | caps, st.data())
def test_whatever_the_roster_allows_no_share_is_above_max_share(counts, max_share, data):
    names = [f"n{i}" for i in range(len(counts))]
    scales = data.draw(st.lists(st.sampled_from([0.0, 1.0, 1e6]), min_size=len(names), max_size=len(names)))
    updates = [update(n, c[0], scale=s, seed=i) for i, (n, c, s) in enumerate(zip(names, counts, scales, strict=True))]
    roster = {name: limit for name, (_, limit) in zip(names, counts, strict=True)}
    shares = find_shares(updates, weighting_named("norm"), max_share, roster.get)
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert max(shares) <= max(2 / len(names) if max_share == "auto" else max_share, 1 / len(names)) + 1e-9


def test_limits_that_are_too_low_together_rise_in_proportion_below_max_share():
    """The largest limit is a million times the others, and its node says that it moved as much more."""
    updates = [*(update(name, 100, seed=i) for i, name in enumerate("abc")), update("evil", 10**6, scale=1e6, seed=9)]
    limits = {"a": 200, "b": 200, "c": 200, "evil": 10**6}.get
    assert find_shares(updates, weighting_named("norm"), "auto", limits)[-1] == pytest.approx(0.5)
    assert find_shares(updates, weighting_named("norm"), 0.3, limits)[-1] == pytest.approx(0.3)


@given(weights, st.data())
def test_those_below_their_caps_keep_their_proportions(weights, data):
    own = data.draw(st.lists(caps, min_size=len(weights), max_size=len(weights)))
    shares = cap_shares(weights, own)
    free = [i for i, share in enumerate(shares) if share < own[i] - 1e-9]
    total = sum(weights[i] for i in free)
    if sum(own) >= 1 and total > 0:
        left = sum(shares[i] for i in free)
        for i in free:
            assert shares[i] == pytest.approx(left * (weights[i] / total), abs=1e-9)


def test_without_a_cap_shares_have_the_bits_of_a_plain_division():
    counts = [517, 1639, 3, 77]
    assert cap_shares(counts, [1.0] * 4) == [count / sum(counts) for count in counts]


def test_every_rule_of_an_algorithm_is_known():
    for name in ALGORITHMS:
        assert weighting_named(weights_of(Server(name)))
    assert (weights_of(Server("hetlora")), weights_of(Server("fedit", weights="tokens"))) == ("norm", "tokens")


def test_an_unknown_rule_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"\[server\] weights = 'exmaples' is unknown.*'examples'"):
        weighting_named("exmaples")


def test_the_noise_of_a_gradient_is_clipped_with_it():
    update = ClientUpdate("ada", 1, 1, 1, {}, noise=8.0)
    assert [replace(update, clip=clip).weighted(1.0).noise for clip in (1.0, 0.5)] == [8.0, 2.0]


def test_no_updates_have_no_shares():
    assert find_shares([], weighting_named("norm")) == []
