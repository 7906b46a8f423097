"""Rounding is unbiased, keyed, and gives values that the wire holds: they cross and are stored with the same bits."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.int8 import LARGEST, pack_rows
from common.adapters.rounding import STORED, WIRES, round_adapter, round_factors
from common.settings.types import Wire
from tests.helpers.common.buffers import random_adapter

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
FEW = pytest.mark.parametrize("wire", ["bfloat16", "int8"])
NEIGHBOURS = {"bfloat16": 2.0**-7, "int8": 1 / LARGEST}
"""Largest distance of two neighbours, as a share of the largest number of a direction."""


def bits(adapter):
    return {name: array.tobytes() for name, array in adapter.astype("f4").arrays().items()}


def test_the_settings_name_the_wires_there_are():
    assert Wire.__args__ == WIRES == tuple(STORED)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 99), st.sampled_from(WIRES), st.sampled_from([1e-20, 1e-3, 1.0, 1e6, 1e30]))
def test_what_was_rounded_crosses_with_the_same_bits(size, seed, wire, scale):
    plain = random_adapter({"q": size}, seed)["q"]
    rounded = round_adapter(Adapter({"q": Factors(plain.a * np.float32(scale), plain.b)}), wire, seed)
    blob = encode_adapter(rounded, STORED[wire])
    back = decode_adapter(blob)
    assert bits(back) == bits(rounded)
    assert encode_adapter(back, STORED[wire]) == blob
    assert bits(round_adapter(rounded, wire, "another key")) == bits(rounded)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.sampled_from(["bfloat16", "int8"]))
def test_each_number_becomes_one_of_its_neighbours(size, wire):
    plain = random_adapter({"q": size}, 3)["q"]
    rounded = round_factors(plain, wire, 1, "q")
    for exact, near in ((plain.a, rounded.a), (plain.b.T, rounded.b.T)):
        largest = np.abs(exact).max(axis=1, initial=0, keepdims=True)
        assert (np.abs(exact - near) <= 1.001 * NEIGHBOURS[wire] * largest).all()


@FEW
def test_the_mean_over_keys_is_the_number_itself(wire):
    """The mean of 600 draws, each off by less than the distance of two neighbours, is 24 times closer."""
    plain = random_adapter({"q": (40, 30, 3)}, 5)["q"]
    draws = [round_factors(plain, wire, key, "q") for key in range(600)]
    for exact, found in ((plain.a, [each.a for each in draws]), (plain.b.T, [each.b.T for each in draws])):
        gap = distance(exact, wire)
        bias = np.abs(np.mean(found, axis=0, dtype="f8") - exact) / gap
        assert bias.max() < 5 * 0.5 / np.sqrt(600)
        nearest = np.rint(exact / gap) * gap  # the control
        assert (np.abs(nearest - exact) / gap).max() > 0.4


def distance(directions, wire):
    """Return the distance of the two neighbours of each number, at most."""
    if wire == "bfloat16":
        return 2.0**-7 * 2 ** np.floor(np.log2(np.abs(directions)))
    return np.abs(directions).max(axis=1, keepdims=True) / LARGEST * np.ones_like(directions)


def test_a_number_far_below_the_scale_is_not_lost():
    """The control is the nearest, by which it would be 0 in every round."""
    exact = np.full((1, 50), 0.3, "f4")
    exact[0, 0] = LARGEST
    assert not pack_rows(exact).integers[0, 1:].any()
    drawn = [pack_rows(exact, np.random.default_rng(k).random(exact.shape)).integers[0, 1:].mean() for k in range(200)]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.02)


@FEW
def test_the_key_and_nothing_else_draws(wire):
    adapter = random_adapter({"q": (6, 5, 2), "v": (6, 5, 2)}, 2)
    one, again, other = (bits(round_adapter(adapter, wire, *key)) for key in ((7, 1), (7, 1), (7, 2)))
    assert one == again != other
    alone = round_factors(adapter["v"], wire, 7, 1, "v")
    assert alone.a.tobytes() == one["v.a"]


@pytest.mark.parametrize("wire", WIRES)
def test_factors_are_in_c_order_before_and_after_the_wire(wire):
    """A product of the same numbers in another order of memory may have other bits."""
    rounded = round_adapter(random_adapter({"q": (6, 5, 2)}, 2), wire, 1)
    for adapter in (rounded, decode_adapter(encode_adapter(rounded, STORED[wire])).astype("f4")):
        assert all(array.flags.c_contiguous for array in adapter.arrays().values())


@FEW
def test_what_is_not_sent_is_not_rounded(wire):
    adapter = random_adapter({"q": (6, 5, 2)}, 2)
    rounded = round_adapter(adapter, wire, 1, omit={"q.a"})["q"]
    assert rounded.a.tobytes() == adapter["q"].a.tobytes()
    assert rounded.b.tobytes() != adapter["q"].b.tobytes()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_still_none_after_the_wire(wire, bad):
    """So that the server refuses the update by its name, and does not add something else."""
    plain = random_adapter({"q": (6, 5, 2)}, 2)["q"]
    a = plain.a.copy()
    a[1, 2] = bad
    blob = encode_adapter(round_adapter(Adapter({"q": Factors(a, plain.b)}), wire, 1), STORED[wire])
    back = decode_adapter(blob)["q"].astype("f4")
    assert not np.isfinite(back.a[1]).all()
    assert np.isfinite(back.a[0]).all()


def test_bfloat16_holds_the_largest_of_its_numbers_and_no_more():
    edge = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    factors = Factors(np.array([[edge, np.finfo("f4").max]], "f4"), np.zeros((1, 1), "f4"))
    rounded = [round_factors(factors, "bfloat16", key, "q").a for key in range(50)]
    assert all(np.isfinite(a).all() and (a == np.float32(edge)).all() for a in rounded)
