"""Rows that are there twice, as the model sees them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

import numpy as np

from client.data.tokens import Example

Mark = tuple[bytes, bytes]
"""Of a row: a hash of its tokens, and of what is learned from them."""


@dataclass(frozen=True)
class Repeats:
    """Repeated rows.

    Args:
        again: rows that equal an earlier one.
        disputed: rows whose tokens another row has with another target.
        known: rows that are held out, whose tokens a row to train on has.
    """

    again: int
    disputed: int
    known: int


def find_repeats(trained: Iterable[Any], held: Iterable[Any]) -> Repeats:
    """Count the repeated rows among encoded ones, to train on and held out."""
    own, other = [_mark(row) for row in trained], [_mark(row) for row in held]
    marks = [*own, *other]
    known = {ids for ids, _ in own}
    return Repeats(len(marks) - len({*marks}), _disputed(marks), sum(ids in known for ids, _ in other))


def _disputed(marks: Sequence[Mark]) -> int:
    targets: dict[bytes, set[bytes]] = {}
    for ids, target in marks:
        targets.setdefault(ids, set()).add(target)
    return sum(len(targets[ids]) > 1 for ids, _ in marks)


def _mark(row: Any) -> Mark:
    parts = examples_of(row)
    return _hash(part.ids for _, part in parts), _hash(np.asarray(part.targets) for _, part in parts)


def _hash(arrays: Iterable[Any]) -> bytes:
    total = blake2b(digest_size=16)
    for array in arrays:
        total.update(b"%d:" % array.size + np.ascontiguousarray(array).tobytes())
    return total.digest()


def examples_of(row: Any) -> list[tuple[str, Example]]:
    """Return the examples of an encoded row by name: of a record its fields', of a single example one without name."""
    if isinstance(row, Example):
        return [("", row)]
    return [(each.name, getattr(row, each.name)) for each in fields(row)]
