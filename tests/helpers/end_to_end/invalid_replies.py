"""Ways to spoil a reply of training, and the word with which a server must refuse each."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan, nextafter
from typing import Any

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter

Values = dict[str, Any]
Spoil = Callable[[Values, bytes], tuple[Values, bytes]]


@dataclass(frozen=True)
class Vice:
    """A way to spoil a good reply before its node signs it, and the server's reason word for that."""

    reason: str
    spoil: Spoil


def _values(**changes: Any) -> Spoil:
    """Other values; one that is a function makes the new value from the old."""

    def spoil(values: Values, blob: bytes) -> tuple[Values, bytes]:
        return values | {key: new(values[key]) if callable(new) else new for key, new in changes.items()}, blob

    return spoil


def _first_module(change: Callable[[Factors], Factors]) -> Spoil:
    """Other factors in one module."""

    def spoil(values: Values, blob: bytes) -> tuple[Values, bytes]:
        adapter = decode_adapter(blob)
        name, factors = next(iter(adapter.items()))
        return values, encode_adapter(Adapter({**adapter, name: change(factors)}))

    return spoil


def _with_nan(factors: Factors) -> Factors:
    a = factors.a.copy()
    a[0, 0] = nan
    return Factors(a, factors.b)


CONTENT = {
    "shape": Vice("shape", _first_module(lambda factors: Factors(factors.a[:, 1:], factors.b))),
    "another-rank": Vice("rank", _first_module(lambda factors: factors.leading_part(factors.rank - 1))),
    "nan": Vice("nan", _first_module(_with_nan)),
    "nan-loss": Vice("nan", _values(loss=nan)),
    "weight": Vice("weight", _values(examples=10**12)),
    "weight-in-tokens": Vice("weight", _values(tokens=10**12)),
    "weight-in-words": Vice("weight", _values(examples="all of them")),
    "old-round": Vice("stale", _values(round=lambda number: number - 1)),
    "another-run": Vice("stale", _values(run="ab" * 32)),
    "another-base": Vice("base", _values(base="cd" * 32)),
}
"""By name; all are signed as their nodes mean them."""

BLOB = "blob"
SIGNED = (
    *("run", "round", "attempt", "parent", "base", "examples", "tokens", "loss", "roster", "nonce", "signature"),
    BLOB,
)
"""All that travels and is signed, or is the signature."""


def flipped(value: Any) -> Any:
    """Flip a bit of the value; a text stays hexadecimal."""
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    if isinstance(value, str):
        return value[:-1] + f"{int(value[-1], 16) ^ 1:x}"
    return value ^ 1 if isinstance(value, int) else nextafter(value, inf)
