"""Adapter <-> one flat, checked buffer; the only wire and disk format.

    magic    version  crc32  header bytes  total bytes  header  data
    6 bytes  u16      u32    u32           u64          JSON    a and b of each module, in order of name

Numbers are little-endian; the CRC-32 covers everything after itself. The header ends at a multiple of 8 bytes and the
arrays, all of one dtype, follow without gaps, so each is aligned to its items. There is one way to write an adapter:
what `decode` takes, `encode` gives back byte for byte.
"""

import struct
from collections.abc import Container
from dataclasses import dataclass
from math import prod
from mmap import mmap

import ml_dtypes
import numpy as np
from zlib_ng.zlib_ng import crc32

from common import layout as layouts
from common.adapter import Adapter, Array, Factors, Shapes
from common.buffers import seal
from common.errors import CodecError
from common.layout import Dtype, Layout, Module

__all__ = ["Dtype", "Limits", "decode", "encode"]

_VERSION = 1
_MAGIC = b"fedlra"
_START = struct.Struct("<6sHI")
_LENGTHS = struct.Struct("<IQ")
_PREFIX = _START.size + _LENGTHS.size
_DTYPES = {"f32": np.dtype("<f4"), "bf16": np.dtype(ml_dtypes.bfloat16), "f16": np.dtype("<f2"), "f64": np.dtype("<f8")}


@dataclass(frozen=True)
class Limits:
    """What `decode` accepts; checked before it allocates.

    Args:
        max_bytes: of all arrays, those that were not sent included.
        max_header: bytes of the header.
        max_rank: largest rank of a module; None takes any.
        shapes: the exact module names and their (d, k); None takes any.
    """

    max_bytes: int = 2**30
    max_header: int = 2**22
    max_rank: int | None = None
    shapes: Shapes | None = None


_DEFAULT = Limits()


def encode(adapter: Adapter, dtype: Dtype = "f32", omit: Container[str] = ()) -> bytes:
    """The buffer of an adapter; equal adapters give equal bytes.

    Args:
        adapter: what to store; its values are rounded to `dtype`.
        dtype: of every array in the buffer.
        omit: flat names (`MODULE.a`, `MODULE.b`) that are not sent; their shapes still are.

    Raises:
        CodecError: a module's name is empty, too long or not printable, or a size is out of range.
    """
    text = layouts.dump(layouts.describe(adapter, dtype, omit))
    arrays = [_octets(array, dtype) for name, array in adapter.arrays().items() if name not in omit]
    total = _PREFIX + len(text) + sum(array.nbytes for array in arrays)
    parts: list[bytes | memoryview] = [_LENGTHS.pack(len(text), total), text, *arrays]
    return seal(lambda crc: _START.pack(_MAGIC, _VERSION, crc), parts)


def decode(buffer: bytes | memoryview | mmap, limits: Limits = _DEFAULT, known: Adapter | None = None) -> Adapter:
    """The adapter in a buffer: read-only views on it, without a copy.

    A b that was not sent is zero; an a that was not sent is the first rows of `known`'s, in the dtype they have there.

    Raises:
        CodecError: the bytes are anything that `encode` does not write, or beyond the limits.
    """
    view = memoryview(buffer).toreadonly().cast("B")
    text = _header_bytes(view, limits)
    layout = layouts.parse(text)
    _check_limits(layout, limits)
    arrays = _arrays(layout, view[_PREFIX + len(text) :])
    return Adapter({name: _factors(name, layout, arrays, known or Adapter()) for name in layout.modules})


def _octets(array: Array, dtype: Dtype) -> memoryview:
    return np.ascontiguousarray(array, _DTYPES[dtype]).reshape(-1).view(np.uint8).data


def _header_bytes(view: memoryview, limits: Limits) -> bytes:
    if len(view) < _PREFIX:
        raise CodecError(f"not an adapter: {len(view)} bytes, fewer than the {_PREFIX} that each starts with")
    magic, version, crc = _START.unpack_from(view)
    length, total = _LENGTHS.unpack_from(view, _START.size)
    if magic != _MAGIC:
        raise CodecError(f"not an adapter: it starts with {magic!r}, not with {_MAGIC!r}")
    if version != _VERSION:
        raise CodecError(
            f"format version {version}; this release reads version {_VERSION}: use one release on every node"
        )
    if total != len(view):
        raise CodecError(f"{len(view)} bytes, but {total} were written; send or copy them again")
    if length > min(limits.max_header, total - _PREFIX):
        raise CodecError(f"a header of {length} bytes exceeds the buffer or the limit of {limits.max_header}")
    if crc32(view[_START.size :]) != crc:
        raise CodecError("wrong checksum: the bytes were changed on their way; send or copy them again")
    return bytes(view[_PREFIX : _PREFIX + length])


def _check_limits(layout: Layout, limits: Limits) -> None:
    modules = layout.modules
    size = sum((m.d + m.k) * m.r for m in modules.values()) * _DTYPES[layout.dtype].itemsize
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


def _arrays(layout: Layout, view: memoryview) -> dict[str, Array]:
    dtype = _DTYPES[layout.dtype]
    size = sum(prod(shape) for _, shape in layout.arrays()) * dtype.itemsize
    if size != len(view):
        raise CodecError(f"{len(view)} bytes of data where the header describes {size}")
    data, start, arrays = np.frombuffer(view, dtype), 0, {}
    for name, shape in layout.arrays():
        arrays[name] = data[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
    return arrays


def _factors(name: str, layout: Layout, arrays: dict[str, Array], known: Adapter) -> Factors:
    module = layout.modules[name]
    a = arrays[f"{name}.a"] if "a" in module.sides else _known_a(name, module, known)
    b = arrays[f"{name}.b"] if "b" in module.sides else np.zeros((module.d, module.r), _DTYPES[layout.dtype])
    return Factors(a, b)


def _known_a(name: str, module: Module, known: Adapter) -> Array:
    factors = known.get(name)
    if factors is None or factors.rank < module.r or factors.shape[1] != module.k:
        raise CodecError(
            f"module {name!r}: its a was not sent, and no ({module.r}, {module.k}) of it is known; send a too"
        )
    return factors.a[: module.r]
