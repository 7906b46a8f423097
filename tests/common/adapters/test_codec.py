import io
import mmap
import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec import DecodeLimits, StoredDtype, decode_adapter, encode_adapter, encoded_size, write_adapter
from common.errors import CodecError
from tests.helpers.common.buffers import PREFIX, claim, data_of, header_of, random_adapter, sealed

NUMPY = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16, "f64": np.float64}
SMALL = random_adapter({"q": (3, 2, 2), "v": (2, 4, 1)})
BLOB = encode_adapter(SMALL)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.isprintable)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
floats = st.sampled_from([np.float32, np.float64])
adapters = st.builds(random_adapter, st.dictionaries(names, sizes, max_size=4), st.integers(0, 99), floats)
dtypes = st.sampled_from(sorted(NUMPY))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Adapter, str, frozenset[str]]:
    adapter = draw(adapters)
    flat = sorted(adapter.arrays())
    return adapter, draw(dtypes), draw(st.frozensets(st.sampled_from(flat))) if flat else frozenset()


def same_bits(left: Array, right: Array) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


# --- what goes in comes out ---


@settings(max_examples=400, deadline=None)
@given(cases())
def test_decode_gives_back_what_was_encoded(case: tuple[Adapter, StoredDtype, frozenset[str]]) -> None:
    adapter, dtype, omit = case
    known = adapter.astype("float64")
    back = decode_adapter(encode_adapter(adapter, dtype, omit), known=known)
    assert back.shapes == adapter.shapes
    for name, array in adapter.arrays().items():
        sent = array.astype(NUMPY[dtype])
        missing = np.zeros_like(sent) if name.endswith(".b") else known.arrays()[name]
        assert same_bits(back.arrays()[name], missing if name in omit else sent)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_there_is_one_way_to_write_an_adapter(case: tuple[Adapter, StoredDtype, frozenset[str]]) -> None:
    adapter, dtype, omit = case
    blob = encode_adapter(adapter, dtype, omit)
    assert encoded_size(adapter, dtype, omit) == len(blob)
    other_order = {name: Factors(np.asfortranarray(f.a), np.asfortranarray(f.b)) for name, f in adapter.items()}
    assert encode_adapter(Adapter(dict(reversed(other_order.items()))), dtype, omit) == blob
    assert encode_adapter(decode_adapter(blob, known=adapter), dtype, omit) == blob


@settings(max_examples=100, deadline=None)
@given(adapters, dtypes)
def test_a_file_gets_the_bytes_of_a_buffer(adapter: Adapter, dtype: StoredDtype) -> None:
    file = io.BytesIO()
    write_adapter(file, adapter, dtype)
    assert file.getvalue() == encode_adapter(adapter, dtype)


def test_an_array_is_converted_when_it_is_its_turn() -> None:
    adapter = random_adapter({f"{i:02}": (1024, 1024, 8) for i in range(32)})
    tracemalloc.start()
    try:
        with Path(os.devnull).open("wb") as nowhere:
            write_adapter(nowhere, adapter, "f64")
        assert tracemalloc.get_traced_memory()[1] < 2**20  # one of 64 arrays takes 64 KiB
        assert len(encode_adapter(adapter, "f64")) < tracemalloc.get_traced_memory()[1] < 2**23  # control: 4 MiB
    finally:
        tracemalloc.stop()


def test_other_values_give_other_bytes() -> None:
    assert encode_adapter(random_adapter({"q": (3, 2, 2)}, seed=0)) != encode_adapter(
        random_adapter({"q": (3, 2, 2)}, seed=1)
    )


def test_the_format_is_the_documented_one() -> None:
    q, v = SMALL["q"], SMALL["v"]
    data = q.a.tobytes() + q.b.tobytes() + v.a.tobytes() + v.b.tobytes()
    assert sealed(claim({"q": (3, 2, 2, "ab"), "v": (2, 4, 1, "ab")}), data) == BLOB
    partly = sealed(claim({"q": (3, 2, 2, "b"), "v": (2, 4, 1, "")}), q.b.tobytes())
    assert encode_adapter(SMALL, omit={"q.a", "v.a", "v.b"}) == partly


def test_values_that_are_not_finite_pass() -> None:
    factors = Factors(np.array([[np.nan, np.inf]], np.float32), np.array([[-np.inf]], np.float32))
    assert same_bits(decode_adapter(encode_adapter(Adapter({"q": factors})))["q"].a, factors.a)


def test_f64_keeps_every_f32() -> None:
    back = decode_adapter(encode_adapter(SMALL, "f64")).astype("float32").arrays()
    assert all(same_bits(back[name], array) for name, array in SMALL.arrays().items())
    rounded = decode_adapter(encode_adapter(SMALL, "bf16")).astype("float32").arrays()
    assert not any(same_bits(rounded[name], array) for name, array in SMALL.arrays().items())


# --- views, not copies ---


@pytest.mark.parametrize("dtype", sorted(NUMPY))
def test_arrays_are_aligned_read_only_views(dtype: StoredDtype) -> None:
    blob = encode_adapter(SMALL, dtype)
    for array in decode_adapter(blob).arrays().values():
        assert np.shares_memory(array, np.frombuffer(blob, np.uint8))
        assert array.flags.aligned
        assert not array.flags.writeable


def test_a_writeable_buffer_gives_read_only_views() -> None:
    buffer = memoryview(bytearray(BLOB))
    array = decode_adapter(buffer)["q"].a
    assert array.any()
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    buffer[-len(data_of(BLOB)) :] = bytes(len(data_of(BLOB)))
    assert not array.any()


def test_a_mapped_file_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "adapter").write_bytes(BLOB)
    with (tmp_path / "adapter").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    back = decode_adapter(mapped)
    assert encode_adapter(back) == BLOB
    assert np.shares_memory(back["v"].b, np.frombuffer(mapped, np.uint8))


# --- factors that were not sent ---


def test_a_is_taken_from_the_first_rows_of_known() -> None:
    sent = random_adapter({"q": (3, 2, 1)}, seed=1)
    back = decode_adapter(encode_adapter(sent, omit={"q.a"}), known=SMALL)["q"]
    assert same_bits(back.a, SMALL["q"].a[:1])
    assert same_bits(back.b, sent["q"].b)


@pytest.mark.parametrize("known", [None, {}, {"q": (3, 2, 1)}, {"q": (3, 4, 2)}, {"other": (3, 2, 2)}])
def test_a_that_is_not_known_or_does_not_fit_is_refused(known: Any) -> None:
    blob = encode_adapter(random_adapter({"q": (3, 2, 2)}), omit={"q.a"})
    with pytest.raises(CodecError, match="'q': its a was not sent"):
        decode_adapter(blob, known=None if known is None else random_adapter(known))
    assert decode_adapter(blob, known=SMALL)["q"].rank == 2


# --- damage ---


def test_every_flipped_byte_is_found() -> None:
    for position in range(len(BLOB)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(BLOB)
            damaged[position] ^= flip
            with pytest.raises(CodecError):
                decode_adapter(bytes(damaged))
    assert decode_adapter(BLOB).shapes == SMALL.shapes


def test_without_the_check_only_the_header_is_read() -> None:
    changed = BLOB[:-1] + bytes([BLOB[-1] ^ 1])
    assert decode_adapter(changed, check=False).shapes == SMALL.shapes
    with pytest.raises(CodecError, match="checksum"):
        decode_adapter(changed)
    with pytest.raises(CodecError, match="header"):
        decode_adapter(BLOB[:PREFIX] + b"?" + BLOB[PREFIX + 1 :], check=False)


def test_a_cut_buffer_is_refused_at_every_length() -> None:
    for length in range(len(BLOB)):
        with pytest.raises(CodecError, match="bytes"):
            decode_adapter(BLOB[:length])


def test_cut_data_are_refused_at_every_length_with_a_right_checksum() -> None:
    for length in range(len(data_of(BLOB))):
        with pytest.raises(CodecError, match=f"{length} bytes of data where"):
            decode_adapter(sealed(header_of(BLOB), data_of(BLOB)[:length]))
    assert sealed(header_of(BLOB), data_of(BLOB)) == BLOB


@pytest.mark.parametrize(
    "blob", [BLOB + b"\0", b"\0" + BLOB, BLOB + BLOB, sealed(header_of(BLOB), data_of(BLOB) + b"\0" * 4)]
)
def test_bytes_around_an_adapter_are_refused(blob: bytes) -> None:
    with pytest.raises(CodecError):
        decode_adapter(blob)


@pytest.mark.parametrize(("header_bytes", "total", "message"), [(8, 0, "header of"), (0, 8, "were written")])
def test_wrong_lengths_are_refused_with_a_right_checksum(header_bytes: int, total: int, message: str) -> None:
    header = claim({"q": (1, 1, 0, "ab")})
    right = sealed(header)
    rest = struct.pack("<IQ", len(header_of(right)) + header_bytes, len(right) + total) + header_of(right)
    wrong = right[:8] + struct.pack("<I", zlib.crc32(rest)) + rest
    with pytest.raises(CodecError, match=message):
        decode_adapter(wrong)
    assert decode_adapter(right).shapes == {"q": (1, 1)}


def test_another_version_is_named() -> None:
    with pytest.raises(CodecError, match=r"version 2.*reads version 1"):
        decode_adapter(BLOB[:6] + struct.pack("<H", 2) + BLOB[8:])


# --- limits: exactly at each one passes, one beyond is refused ---


@pytest.mark.parametrize("omit", [(), ("q.b", "v.b")])
def test_max_bytes_counts_arrays_that_were_not_sent(omit: tuple[str, ...]) -> None:
    size, blob = sum(array.nbytes for array in SMALL.arrays().values()), encode_adapter(SMALL, omit=omit)
    assert decode_adapter(blob, DecodeLimits(max_bytes=size)).shapes == SMALL.shapes
    with pytest.raises(CodecError, match=f"{size} bytes exceed the limit of {size - 1}"):
        decode_adapter(blob, DecodeLimits(max_bytes=size - 1))


def test_max_header() -> None:
    length = len(header_of(BLOB))
    assert decode_adapter(BLOB, DecodeLimits(max_header=length)).shapes == SMALL.shapes
    with pytest.raises(CodecError, match=f"header of {length} bytes"):
        decode_adapter(BLOB, DecodeLimits(max_header=length - 1))


def test_max_rank() -> None:
    assert decode_adapter(BLOB, DecodeLimits(max_rank=2)).rank == 2
    with pytest.raises(CodecError, match="rank 2 exceeds the limit of 1"):
        decode_adapter(BLOB, DecodeLimits(max_rank=1))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (3, 2)}, "'v'.*expected absent"),
        ({"q": (3, 2), "v": (2, 4), "w": (1, 1)}, "'w'.*is absent"),
        ({"q": (2, 3), "v": (2, 4)}, r"'q'.*is \(3, 2\), expected \(2, 3\)"),
        ({}, "2 modules differ"),
    ],
)
def test_shapes_are_exact(shapes: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode_adapter(BLOB, DecodeLimits(shapes=shapes))
    assert decode_adapter(BLOB, DecodeLimits(shapes=SMALL.shapes)).shapes == SMALL.shapes


def peak_of(blob: bytes) -> int:
    """Bytes that decoding allocates at its highest, whether it succeeds or not."""
    tracemalloc.start()
    try:
        decode_adapter(blob)
    except CodecError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "blob",
    [
        sealed(claim({"q": (2**31 - 1, 2**31 - 1, 2**31 - 1, "")})),
        sealed(claim({"q": (2**31 - 1, 1, 8, "a")}), bytes(32)),
        sealed(claim({"q": (2**31, 1, 0, "a")})),
        sealed(claim({"q": (10**100, 1, 0, "a")})),
        struct.pack("<6sHIIQ", b"fedlra", 1, 0, 2**32 - 1, 2**64 - 1) + bytes(64),
        struct.pack("<6sHIIQ", b"fedlra", 1, 0, 2**32 - 1, PREFIX + 64) + bytes(64),
        sealed(b'{"dtype":"f32","modules":{%s}}' % b",".join(b'"%d":{}' % number for number in range(300_000))),
        sealed(b'{"dtype":"f32","modules":{"q":{%s}}}' % b",".join(b'"%d":1' % number for number in range(300_000))),
        sealed(b'{"dtype":"f32","modules":[%s]}' % b",".join([b"[]"] * 1_000_000)),
    ],
)
def test_a_claimed_size_is_not_allocated(blob: bytes) -> None:
    with pytest.raises(CodecError):
        decode_adapter(blob)
    assert peak_of(blob) < 100_000 + 2 * len(blob)


def test_a_b_that_was_not_sent_takes_no_memory() -> None:
    blob = sealed(claim({"q": (100_000, 1, 1, "a")}), bytes(4))
    b = decode_adapter(blob)["q"].b
    assert (b.shape, b.dtype, b.any(), b.flags.writeable) == ((100_000, 1), np.float32, False, False)
    assert peak_of(blob) < 100_000


def test_that_measure_sees_an_allocated_size() -> None:
    known = random_adapter({f"{number}": (1, 1, 0) for number in range(1000)})
    assert peak_of(encode_adapter(known)) > 400_000
