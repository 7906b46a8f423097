"""Codec: 64 MiB of factors in 2,048 arrays, checksum on, against Flower's ArrayRecord as protobuf bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

# Flower has no public function for the bytes of a record; its own tests use these.
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.errors import CodecError
from simulations.bench.measure import Comparison, require, time_in_turn

MODULES, SIZE, RANK = 1024, 1024, 8  # like 512 layers with two adapted modules each: 2 arrays of 32 KiB per module
REPETITIONS = 15
PEER = "ArrayRecord, protobuf"


def measure() -> list[Comparison]:
    """Measure the milliseconds that one thread takes to encode and to decode."""
    adapter = _adapter()
    ours, theirs = encode_adapter(adapter), _to_protobuf(adapter)
    gate = _gate(adapter, ours, theirs)
    seconds = time_in_turn(
        {
            "encode": lambda: encode_adapter(adapter),
            "their encode": lambda: _to_protobuf(adapter),
            "decode": lambda: decode_adapter(ours),
            "their decode": lambda: _from_protobuf(theirs),
        },
        REPETITIONS,
    )
    milliseconds = {name: 1e3 * value for name, value in seconds.items()}
    what = f"{len(ours) / 2**20:.0f} MiB in {2 * MODULES:,} arrays"
    return [
        Comparison(
            f"{name} {what}", milliseconds[name], milliseconds[f"their {name}"], "ms", PEER, at_least=least, gate=gate
        )
        for name, least in (("encode", 20), ("decode", 8))
    ]


def _adapter() -> Adapter:
    random = np.random.default_rng(0)
    factors = [random.standard_normal((2, RANK * SIZE), np.float32) for _ in range(MODULES)]
    return Adapter(
        {
            f"layers.{i:04}.proj": Factors(a.reshape(RANK, SIZE), b.reshape(SIZE, RANK))
            for i, (a, b) in enumerate(factors)
        }
    )


def _to_protobuf(adapter: Adapter) -> bytes:
    arrays = {name: Array(array) for name, array in adapter.arrays().items()}
    data: bytes = recorddict_to_proto(RecordDict({"adapter": ArrayRecord(arrays)})).SerializeToString()
    return data


def _from_protobuf(data: bytes) -> dict[str, Any]:
    record: Any = recorddict_to_proto(RecordDict()).FromString(data)
    return {name: array.numpy() for name, array in recorddict_from_proto(record).array_records["adapter"].items()}


def _gate(adapter: Adapter, ours: bytes, theirs: bytes) -> str:
    flipped = bytearray(ours)
    flipped[-1] ^= 1
    same = all(_equal(adapter, arrays) for arrays in (decode_adapter(ours).arrays(), _from_protobuf(theirs)))
    return require(same and _is_rejected(bytes(flipped)), "every bit comes back from both; ours refuses a flipped one")


def _equal(adapter: Adapter, arrays: Mapping[str, Any]) -> bool:
    return all(np.array_equal(array, arrays[name]) for name, array in adapter.arrays().items())


def _is_rejected(buffer: bytes) -> bool:
    try:
        decode_adapter(buffer)
    except CodecError:
        return True
    return False
