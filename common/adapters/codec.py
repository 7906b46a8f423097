"""Adapter <-> one flat, checked buffer; the only wire and disk format.

    magic    version  crc32  header bytes  total bytes  header  data
    6 bytes  u16      u32    u32           u64          JSON    a and b of each module, in order of name

Numbers are little-endian; the CRC-32 covers everything after itself. The header ends at a multiple of 8 bytes and the
arrays, all of one dtype, follow without gaps, so each is aligned to its items. In `i8` an array is its scales in
float32 and then its integers (`common.adapters.int8`), and a B is stored by its columns. There is one way to write an
adapter: `encode_adapter` reproduces byte for byte whatever `decode_adapter` accepts.
"""

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import chain
from math import prod
from mmap import mmap
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from zlib_ng.zlib_ng import crc32

from common.adapters import codec_header
from common.adapters.adapter import Adapter, Array, Factors, Shapes
from common.adapters.checksum import join_with_crc
from common.adapters.codec_header import CodecHeader, ModuleHeader, StoredDtype
from common.adapters.int8 import PackedAdapter, PackedArray, Rows, Source, check_rows, pack_rows
from common.errors import CodecError

__all__ = [
    "DecodeLimits",
    "StoredDtype",
    "decode_adapter",
    "encode_adapter",
    "encoded_size",
    "read_layout",
    "write_adapter",
]

_VERSION = 1
_MAGIC = b"fedlra"
_START = struct.Struct("<6sHI")
_LENGTHS = struct.Struct("<IQ")
_PREFIX = _START.size + _LENGTHS.size
_SCALE = np.dtype("<f4")
_DTYPES = {
    "f32": np.dtype("<f4"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f16": np.dtype("<f2"),
    "f64": np.dtype("<f8"),
    "i8": np.dtype("i1"),
}


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on what `decode_adapter` accepts, checked before it allocates.

    Args:
        max_bytes: of all arrays, those that were not sent included.
        max_header: bytes of the header.
        max_rank: largest rank of a module; None accepts any.
        shapes: the exact module names and their (d, k); None accepts any.
    """

    max_bytes: int = 2**30
    max_header: int = 2**22
    max_rank: int | None = None
    shapes: Shapes | None = None


_DEFAULT = DecodeLimits()


def encode_adapter(adapter: Adapter, dtype: StoredDtype = "f32", omit: Container[str] = ()) -> bytes:
    """Encode an adapter as one buffer; equal adapters give equal bytes.

    Args:
        adapter: what to store; its values are rounded to `dtype`.
        dtype: of every array in the buffer.
        omit: flat names (`MODULE.a`, `MODULE.b`) that are not sent; their shapes still are.

    Raises:
        CodecError: a module's name is empty, too long or not printable, or a size is out of range.
    """
    return join_with_crc(_start, *_parts(adapter, dtype, omit))


def encoded_size(adapter: Adapter, dtype: StoredDtype = "f32", omit: Container[str] = ()) -> int:
    """Return the length in bytes of what `encode_adapter` returns for the same arguments; no array is read.

    Raises:
        CodecError: as for `encode_adapter`.
    """
    return _START.size + _parts(adapter, dtype, omit)[0]


def write_adapter(file: BinaryIO, adapter: Adapter, dtype: StoredDtype = "f32") -> None:
    """Write the bytes of `encode_adapter` to an empty file, array by array, so that memory need not hold them all.

    Raises:
        CodecError: as for `encode_adapter`.
        OSError: the file cannot be written.
    """
    crc = 0
    file.seek(_START.size)  # the start contains the checksum of all that follows, so it is written last
    for part in _parts(adapter, dtype, ())[1]:
        crc = crc32(part, crc)
        file.write(part)
    file.seek(0)
    file.write(_start(crc))


def decode_adapter(
    buffer: bytes | memoryview | mmap, limits: DecodeLimits = _DEFAULT, known: Adapter | None = None, check: bool = True
) -> Adapter:
    """Decode the adapter in a buffer: read-only views on it, without a copy; from `i8` a module at each access.

    A b that was not sent is zero; an a that was not sent is the first rows of `known`'s, in their dtype.

    Args:
        buffer: bytes from `encode_adapter`.
        limits: largest sizes to accept.
        known: supplies every a that may be left out.
        check: compare the checksum, which reads the whole buffer; otherwise only its header is read.

    Raises:
        CodecError: the bytes are not in the form that `encode_adapter` writes, or exceed the limits.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    text = _header_bytes(view, limits, check)
    layout = codec_header.parse_header(text)
    _check_limits(layout, limits)
    arrays = _arrays(layout, view[_PREFIX + len(text) :])
    for name, array in arrays.items() if check and layout.dtype == "i8" else ():
        if isinstance(array, PackedArray):
            check_rows(name, array.rows)
    sides = {name: _sides(name, layout, arrays, known or Adapter()) for name in layout.modules}
    if layout.dtype == "i8":
        return PackedAdapter(sides)
    return Adapter({n: Factors(a, b) for n, (a, b) in sides.items()})  # type: ignore[arg-type]  # none is packed


def read_layout(buffer: bytes | memoryview) -> CodecHeader:
    """Return the header of a buffer, without a look at its arrays.

    Raises:
        CodecError: the buffer or its header is malformed.
    """
    return codec_header.parse_header(_header_bytes(memoryview(buffer).cast("B"), _DEFAULT, check=False))


def _start(crc: int) -> bytes:
    return _START.pack(_MAGIC, _VERSION, crc)


def _parts(adapter: Adapter, dtype: StoredDtype, omit: Container[str]) -> tuple[int, Iterator[bytes | memoryview]]:
    """Return the size in bytes and the parts of all that follows the checksum; arrays are converted one by one."""
    layout = codec_header.make_header(adapter, dtype, omit)
    text = codec_header.dump_header(layout)
    total = _PREFIX + len(text) + _size(layout)
    octets = (
        part for name, f in adapter.items() for side in layout.modules[name].sides for part in _octets(f, side, dtype)
    )
    return total - _START.size, chain([_LENGTHS.pack(len(text), total), text], octets)


def _size(layout: CodecHeader) -> int:
    if layout.dtype == "i8":
        return sum(_stored(name, shape) for name, shape in layout.arrays())
    numbers: int = sum(prod(shape) for _, shape in layout.arrays())
    return numbers * int(_DTYPES[layout.dtype].itemsize)


def _stored(name: str, shape: tuple[int, int]) -> int:
    """Return the bytes of an array of this flat name in `i8`, where each direction has a scale."""
    return (shape[0] if name.endswith(".a") else shape[1]) * _SCALE.itemsize + prod(shape)


def _octets(factors: Factors, side: str, dtype: StoredDtype) -> Iterator[memoryview]:
    array = factors.a if side == "a" else factors.b
    if dtype != "i8":
        yield _bytes(np.ascontiguousarray(array, _DTYPES[dtype]))
        return
    rows = pack_rows(array if side == "a" else array.T)
    yield _bytes(np.ascontiguousarray(rows.scales, _SCALE))
    yield _bytes(np.ascontiguousarray(rows.integers))


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _header_bytes(view: memoryview, limits: DecodeLimits, check: bool) -> bytes:
    if len(view) < _PREFIX:
        raise CodecError(f"not an adapter: {len(view)} bytes, but every adapter has at least {_PREFIX}")
    magic, version, crc = _START.unpack_from(view)
    length, total = _LENGTHS.unpack_from(view, _START.size)
    if magic != _MAGIC:
        raise CodecError(f"not an adapter: it starts with {magic!r}, not {_MAGIC!r}")
    if version != _VERSION:
        raise CodecError(
            f"format version {version}; this release reads version {_VERSION}: use one release on every node"
        )
    if total != len(view):
        raise CodecError(f"{len(view)} bytes, but {total} were written; send or copy them again")
    if length > min(limits.max_header, total - _PREFIX):
        raise CodecError(f"a header of {length} bytes exceeds the buffer or the limit of {limits.max_header}")
    # Last, because it is the only check that reads the whole buffer.
    if check and crc32(view[_START.size :]) != crc:
        raise CodecError("wrong checksum: the bytes were changed in transit; send or copy them again")
    return bytes(view[_PREFIX : _PREFIX + length])


def _check_limits(layout: CodecHeader, limits: DecodeLimits) -> None:
    modules = layout.modules
    size = sum((m.d + m.k) * m.r for m in modules.values()) * _in_memory(layout).itemsize
    if size > limits.max_bytes:
        raise CodecError(f"arrays of {size} bytes exceed the limit of {limits.max_bytes}")
    rank = max((m.r for m in modules.values()), default=0)
    if limits.max_rank is not None and rank > limits.max_rank:
        raise CodecError(f"rank {rank} exceeds the limit of {limits.max_rank}")
    if limits.shapes is not None:
        _check_shapes({name: (m.d, m.k) for name, m in modules.items()}, limits.shapes)


def _check_shapes(shapes: Shapes, expected: Shapes) -> None:
    wrong = [name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name)]
    if wrong:
        name = min(wrong)
        raise CodecError(
            f"module {name!r}: (d, k) is {shapes.get(name, 'absent')}, expected {expected.get(name, 'absent')} "
            f"({len(wrong)} modules differ); train the same base model and target modules as the others"
        )


def _arrays(layout: CodecHeader, view: memoryview) -> dict[str, Source]:
    if _size(layout) != len(view):
        raise CodecError(f"{len(view)} bytes of data where the header describes {_size(layout)}")
    if layout.dtype != "i8":
        return _views(layout, np.frombuffer(view, _DTYPES[layout.dtype]))
    start, arrays = 0, dict[str, Source]()
    for name, shape in layout.arrays():
        end = start + _stored(name, shape)
        arrays[name] = _packed(name, shape, view[start:end])
        start = end
    return arrays


def _views(layout: CodecHeader, data: Array) -> dict[str, Source]:
    start, arrays = 0, dict[str, Source]()
    for name, shape in layout.arrays():
        arrays[name] = data[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
    return arrays


def _packed(name: str, shape: tuple[int, int], view: memoryview) -> PackedArray:
    is_b = name.endswith(".b")
    count, length = shape[::-1] if is_b else shape
    scales, integers = view[: count * _SCALE.itemsize], view[count * _SCALE.itemsize :]
    return PackedArray(Rows(np.frombuffer(scales, _SCALE), np.frombuffer(integers, "i1").reshape(count, length)), is_b)


def _sides(name: str, layout: CodecHeader, arrays: dict[str, Source], known: Adapter) -> tuple[Source, Source]:
    module = layout.modules[name]
    a = arrays[f"{name}.a"] if "a" in module.sides else _known_a(name, module, known)
    b = arrays[f"{name}.b"] if "b" in module.sides else _zeros((module.d, module.r), _in_memory(layout))
    return a, b


def _in_memory(layout: CodecHeader) -> np.dtype[Any]:
    return _SCALE if layout.dtype == "i8" else _DTYPES[layout.dtype]


def _zeros(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return one zero seen as many: what a header only names takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _known_a(name: str, module: ModuleHeader, known: Adapter) -> Array:
    factors = known.get(name)
    if factors is None or factors.rank < module.r or factors.shape[1] != module.k:
        raise CodecError(
            f"module {name!r}: its a was not sent, and no ({module.r}, {module.k}) of it is known; send a too"
        )
    return factors.a[: module.r]
