"""Packed factors: a module is unpacked where it is used, and bytes that `encode_adapter` does not write are refused."""

import tracemalloc

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter
from common.adapters.int8 import PackedAdapter, pack_rows, sources_of
from common.adapters.rounding import round_adapter
from common.errors import CodecError
from tests.helpers.common.buffers import data_of, header_of, random_adapter, sealed

ADAPTER = round_adapter(random_adapter({"q": (5, 4, 2), "v": (3, 6, 1)}, 1), "int8", 1)
BLOB = encode_adapter(ADAPTER, "i8")
Q_SCALES, Q_INTEGERS = slice(0, 8), slice(8, 16)
"""Of q's a (2, 4) in the data."""


def changed(place, value):
    data = bytearray(data_of(BLOB))
    data[place] = value
    return sealed(header_of(BLOB), bytes(data))


@pytest.mark.parametrize(
    "blob",
    [
        changed(Q_SCALES, np.array([-0.01, 0.01], "<f4").tobytes()),
        changed(Q_SCALES, np.array([np.inf, 0.01], "<f4").tobytes()),
        changed(Q_SCALES, np.array([np.nan, 0.01], "<f4").tobytes()),
        changed(Q_SCALES, np.array([1 / 3, 1 / 3], "<f4").tobytes()),
        changed(Q_SCALES, np.array([1e-39, 0.5], "<f4").tobytes()),
        changed(Q_SCALES, np.zeros(2, "<f4").tobytes()),
        changed(Q_INTEGERS, np.full(8, 126, "i1").tobytes()),
        changed(Q_INTEGERS, np.full(8, -128, "i1").tobytes()),
        changed(Q_INTEGERS, np.zeros(8, "i1").tobytes()),
    ],
    ids=["negative", "infinite", "nan", "mantissa", "subnormal", "zero scale", "small", "below", "zero row"],
)
def test_rows_that_are_not_canonical_are_refused(blob):
    with pytest.raises(CodecError, match=r"q\.a is not in canonical form"):
        decode_adapter(blob)


@pytest.mark.parametrize(
    "rows", [(0.5, 127), (2.0**-10, -127), (0.0, 0)], ids=["a scale", "a negative one", "a row of zeros"]
)
def test_rows_that_are_canonical_are_accepted(rows):
    """The control of the test before."""
    scale, largest = rows
    integers = np.zeros((2, 4), "i1")
    integers[:, 1] = largest
    data = bytearray(data_of(BLOB))
    data[Q_SCALES], data[Q_INTEGERS] = np.full(2, scale, "<f4").tobytes(), integers.tobytes()
    blob = sealed(header_of(BLOB), bytes(data))
    assert (decode_adapter(blob)["q"].a[:, 1] == scale * largest).all()
    assert encode_adapter(decode_adapter(blob), "i8") == blob


def test_memory_holds_one_unpacked_module():
    sizes = {f"m{i}": (512, 512, 64) for i in range(24)}
    blob = encode_adapter(random_adapter(sizes, 1), "i8")
    tracemalloc.start()
    adapter = decode_adapter(blob, DecodeLimits(max_bytes=2**30), check=False)
    for name in adapter:
        _ = adapter[name]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(adapter, PackedAdapter)
    assert peak < 3 * 4 * 2 * 512 * 64
    assert set(sources_of(adapter)) == set(sizes)


def test_the_limit_is_on_what_is_unpacked():
    numbers = 2 * (5 + 4) + (3 + 6)
    with pytest.raises(CodecError, match=f"arrays of {4 * numbers} bytes exceed"):
        decode_adapter(BLOB, DecodeLimits(max_bytes=4 * numbers - 1))
    assert decode_adapter(BLOB, DecodeLimits(max_bytes=4 * numbers)).rank == 2


@pytest.mark.parametrize("scale", [2.0**-101, 2.0**-100, 2.0**-100 * (1 + 2.0**-16), 2.0**-99, 2.0**-90])
def test_rows_about_the_smallest_scale_are_written_as_they_are_read(scale):
    factors = Adapter({"q": Factors(np.array([[scale, scale / 3]], "f4"), np.ones((1, 1), "f4"))})
    blob = encode_adapter(factors, "i8")
    assert encode_adapter(decode_adapter(blob), "i8") == blob


def test_shapes_and_ranks_are_told_without_unpacking(monkeypatch):
    packed = decode_adapter(BLOB)
    expected = {name: f.shape for name, f in packed.items()}, {name: f.rank for name, f in packed.items()}
    monkeypatch.setattr("common.adapters.int8.PackedArray.unpack", None)
    assert (packed.shapes, packed.ranks, packed.rank) == (*expected, 2)


def test_the_largest_of_a_row_is_at_the_end_of_the_scale():
    rows = pack_rows(np.array([[3.0, -7.0, 0.1], [0.0, 0.0, 0.0]]), np.full((2, 3), 0.999))
    assert rows.integers[0, 1] == -127
    assert rows.scales[0] * 127 == pytest.approx(7.0, rel=2.0**-15)
    assert rows.scales[1] == 0
