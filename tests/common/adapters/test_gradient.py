"""A compressed gradient is the best approximation of its rank, or whole where that is no larger."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import DecodeLimits
from common.adapters.gradient import compress, gradient_form, gradient_of, sent_rank, unsent
from common.protocol.assignment import Assignment
from common.protocol.messages import pack_gradient, reply_form, unpack_update
from common.seeding import rng

sizes = st.tuples(st.integers(1, 24), st.integers(1, 9), st.integers(1, 12))


def product(factors: Factors) -> np.ndarray:
    return factors.b.astype("f8") @ factors.a.astype("f8")


def truncated(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ vt[:rank]


@settings(max_examples=150)
@given(sizes, st.integers(0, 5))
def test_it_is_the_best_approximation_that_float32_holds(size, seed):
    rows, columns, rank = size
    gradient = rng("gradient", seed).standard_normal((rows, columns)).astype("f4")
    sent = compress(gradient, rank)
    best = gradient if sent.rank == columns else truncated(gradient.astype("f8"), rank)
    assert np.linalg.norm(product(sent) - best) <= 1e-5 * np.linalg.norm(gradient)


@given(sizes)
def test_it_is_whole_exactly_where_that_is_no_more_numbers(size):
    rows, columns, rank = size
    whole = sent_rank(rows, columns, rank) == columns
    assert whole == (rank >= columns or rank * (rows + columns) >= rows * columns)
    if whole:
        gradient = rng("whole").standard_normal((rows, columns)).astype("f4")
        assert np.array_equal(product(compress(gradient, rank)), gradient)  # the same bits


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_sent_as_such_in_its_form(rank, value):
    """The server refuses it by name; a node of low rank has no directions to choose."""
    gradient = np.ones((30, 4), "f4")
    gradient[3, 2] = value
    sent = compress(gradient, rank)
    assert sent.rank == sent_rank(30, 4, rank)
    assert not np.isfinite(sent.b).all()


def test_a_gradient_of_zeros_is_sent_as_zeros():
    assert not product(compress(np.zeros((9, 4), "f4"), 2)).any()


@pytest.mark.parametrize("trains", ["both", "b"])
@pytest.mark.parametrize("rank", [1, 2, 4, 8])
def test_it_travels_without_its_identities_and_arrives_in_the_form_that_was_asked(trains, rank):
    start = Adapter(
        {
            "one": Factors(np.ones((4, 30), "f4"), np.zeros((20, 4), "f4")),
            "none": Factors(np.ones((0, 3), "f4"), np.ones((2, 0), "f4")),
        }
    )
    asked = Assignment(Adapter(), start, trains, returns="compressed-gradient", reply_rank=rank)
    form = reply_form(asked)
    assert form.shapes == gradient_form(start, trains, rank).shapes
    assert set(form) == ({"b/one", "a/one"} if trains == "both" else {"b/one"})
    assert form["b/one"].shape == (20, 4)
    gradient = Adapter(
        {side: compress(rng(side).standard_normal(f.shape).astype("f4"), rank) for side, f in form.items()}
    )
    blob = pack_gradient(gradient)
    arrived = unpack_update(blob, asked, DecodeLimits())
    assert all(np.array_equal(product(arrived[side]), product(gradient[side])) for side in form)
    assert unsent(form) == ({f"{side}.a" for side in form} if rank == 4 or rank == 8 else set())
    numbers = sum(f.b.size + (0 if f"{side}.a" in unsent(form) else f.a.size) for side, f in form.items())
    assert numbers * 4 < len(blob) < numbers * 4 + 600


def test_a_gradient_by_a_is_in_the_shape_of_a():
    assert gradient_of("a", np.zeros((30, 4))).shape == (4, 30)
    assert gradient_of("b", np.zeros((20, 4))).shape == (20, 4)
