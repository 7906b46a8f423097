"""Unbiased rounding of factors to what fewer bits hold, so that they cross a link, and are stored, without loss.

Each number becomes one of its two neighbours, with the chances that make the mean the number itself; which one is drawn
by a key, so that every repetition of a round has the same bits.
"""

from collections.abc import Container, Mapping
from typing import Literal, get_args

import numpy as np

from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec_header import StoredDtype
from common.adapters.int8 import LARGEST, PackedArray, pack_rows
from common.seeding import rng

Wire = Literal["float32", "bfloat16", "int8"]
STORED: Mapping[Wire, StoredDtype] = {"float32": "f32", "bfloat16": "bf16", "int8": "i8"}
"""The type of the arrays of a buffer, by the name of the wire."""
WIRES: tuple[str, ...] = get_args(Wire)


def round_adapter(adapter: Adapter, wire: Wire, *key: str | int, omit: Container[str] = ()) -> Adapter:
    """Return an adapter in float32 with values that the wire holds; but for `omit`, flat names as in the codec."""
    return Adapter({name: round_factors(f, wire, *key, name, omit=omit) for name, f in adapter.items()})


def round_factors(factors: Factors, wire: Wire, *key: str | int, omit: Container[str] = ()) -> Factors:
    """Return a module's factors in float32 with values that the wire holds; the last word of the key is its name."""
    if wire == "float32":
        return factors.astype("f4")
    draw, name = rng("rounding", *key), key[-1]
    a = factors.a if f"{name}.a" in omit else _round(factors.a, wire, draw, is_b=False)
    b = factors.b if f"{name}.b" in omit else _round(factors.b, wire, draw, is_b=True)
    return Factors(a, b).astype("f4")


def rounding_norm(array: Array, wire: Wire, is_b: bool, moved: float = 0.0) -> float:
    """Return how far rounding may move a factor, in the Frobenius norm, that is up to `moved` from this one."""
    if wire == "float32":
        return 0.0
    if wire == "bfloat16":
        return 2.0**-7 * (float(np.linalg.norm(array)) + moved)
    directions = array.T if is_b else array
    steps = (np.abs(directions).max(axis=1, initial=0.0).astype("f8") + moved) / LARGEST
    return float(np.sqrt(directions.shape[1]) * np.linalg.norm(steps))


def _round(array: Array, wire: Wire, draw: np.random.Generator, is_b: bool) -> Array:
    directions = array.T if is_b else array
    if wire == "bfloat16":
        rounded = _to_bfloat16(directions, draw)
        return np.ascontiguousarray(rounded.T) if is_b else rounded
    return PackedArray(pack_rows(directions, draw.random(directions.shape, np.float32)), is_b).unpack()


def _to_bfloat16(values: Array, draw: np.random.Generator) -> Array:
    """Return float32 of which the lower 16 bits, before they are cut, carried a random number over."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    moved = (bits + draw.integers(2**16, size=bits.shape, dtype=np.uint32)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values) & (moved & 0x7F800000 != 0x7F800000), moved, bits & 0xFFFF0000).view("<f4")
