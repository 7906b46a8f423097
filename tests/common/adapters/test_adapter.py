import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors, zeros


def _factors(d=4, k=3, r=2):
    return Factors(np.arange(r * k, dtype="f4").reshape(r, k), np.arange(d * r, dtype="f4").reshape(d, r))


def test_factors_know_their_rank_and_the_shape_of_their_product():
    factors = _factors(d=4, k=3, r=2)
    assert (factors.rank, factors.shape) == (2, (4, 3))
    assert factors.shape == (factors.b @ factors.a).shape


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (4, 1)), ((3,), (4, 3)), ((2, 3), (2,)), ((1, 2, 3), (4, 1)), ((4, 3), (2, 5))]
)
def test_what_forms_no_product_is_refused(a, b):
    with pytest.raises(ValueError, match=r"is not a product of matrices"):
        Factors(np.zeros(a), np.zeros(b))


def test_factors_are_read_only_but_the_callers_arrays_are_not():
    a, b = np.zeros((2, 3)), np.zeros((4, 2))
    factors = Factors(a, b)
    for array in (factors.a, factors.b):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(AttributeError):
        factors.a = a
    a[0, 0] = 1


def test_leading_keeps_the_first_directions():
    leading = _factors(r=3).leading_part(2)
    np.testing.assert_array_equal(leading.a, _factors(r=3).a[:2])
    np.testing.assert_array_equal(leading.b, _factors(r=3).b[:, :2])
    assert _factors(r=2).leading_part(5).rank == 2


def test_astype_copies_only_when_it_must():
    factors = _factors()
    assert np.shares_memory(factors.astype("f4").a, factors.a)
    wide = factors.astype("f8")
    assert (wide.a.dtype, wide.b.dtype, factors.a.dtype) == (np.float64, np.float64, np.float32)


def test_an_adapter_is_in_order_of_name_whatever_order_it_was_made_in():
    names = ["b", "a", "a.x"]
    for order in (names, names[::-1]):
        assert list(Adapter({name: _factors() for name in order})) == ["a", "a.x", "b"]


def test_an_adapter_cannot_be_changed():
    source = {"a": _factors()}
    adapter = Adapter(source)
    source["b"] = _factors()
    assert list(adapter) == ["a"]
    with pytest.raises(TypeError):
        adapter["a"] = _factors()


def test_an_adapter_tells_its_shapes_largest_rank_and_arrays():
    adapter = Adapter({"p": _factors(5, 3, 2), "q": _factors(4, 6, 0)})
    assert adapter.shapes == {"p": (5, 3), "q": (4, 6)}
    assert (adapter.rank, Adapter().rank, len(Adapter())) == (2, 0, 0)
    assert {name: array.shape for name, array in adapter.arrays().items()} == {
        "p.a": (2, 3),
        "p.b": (5, 2),
        "q.a": (0, 6),
        "q.b": (4, 0),
    }
    assert {f.a.dtype for f in adapter.astype("f8").values()} == {np.dtype("f8")}


@pytest.mark.parametrize(("rank", "ranks"), [(0, (0, 0)), (1, (1, 1)), (4, (2, 4)), (99, (2, 5))])
def test_zeros_have_at_most_the_rank_a_matrix_can_have(rank, ranks):
    adapter = zeros({"x": (2, 7), "y": (6, 5)}, rank)
    assert tuple(f.rank for f in adapter.values()) == ranks
    assert adapter.shapes == {"x": (2, 7), "y": (6, 5)}
    assert not any(array.any() for array in adapter.arrays().values())
