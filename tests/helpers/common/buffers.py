"""Adapters and hand-made codec buffers for tests."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from common.adapters.adapter import Adapter, Factors

PREFIX = 24


def random_adapter(sizes: Mapping[str, tuple[int, int, int]], seed: int = 0, dtype: Any = np.float32) -> Adapter:
    """Draw an adapter of modules given as (d, k, r)."""
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: Factors(rng.standard_normal((r, k)).astype(dtype), rng.standard_normal((d, r)).astype(dtype))
            for name, (d, k, r) in sizes.items()
        }
    )


def sealed(header: bytes, data: bytes = b"") -> bytes:
    """Write, without `encode`, a buffer with right lengths and checksum, whatever its header and data are."""
    header += b" " * (-len(header) % 8)
    rest = struct.pack("<IQ", len(header), PREFIX + len(header) + len(data)) + header + data
    return struct.pack("<6sHI", b"fedlra", 1, zlib.crc32(rest)) + rest


def header_of(blob: bytes) -> bytes:
    """Return the header of a well-formed buffer."""
    (length,) = struct.unpack_from("<I", blob, 12)
    return blob[PREFIX : PREFIX + length]


def data_of(blob: bytes) -> bytes:
    """Return the arrays of a well-formed buffer."""
    return blob[PREFIX + len(header_of(blob)) :]


def compact(value: object) -> bytes:
    """Canonical JSON."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def claim(modules: Mapping[str, tuple[int, int, int, str]]) -> bytes:
    """Write a header of modules given as (d, k, r, sides)."""
    entries = {name: {"d": d, "k": k, "r": r, "sides": sides} for name, (d, k, r, sides) in modules.items()}
    return compact({"dtype": "f32", "modules": entries})
