"""Encoded rows of a node in few flat arrays: 4 bytes a token, where an object for each row needs several times that.

A token that is not learned is held as the complement of its id, which is negative.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from client.data.batch_order import Indices
from client.data.tokens import IGNORE, Example, Ids


class Store(Protocol):
    """Rows by their place."""

    def __getitem__(self, place: int) -> Any: ...


@dataclass(frozen=True, eq=False)
class PackedRows(Sequence[Any]):
    """Rows of a store, in an order of their own; the parts of a split share the store.

    Args:
        store: all rows.
        sizes: tokens of each row in the store (m,).
        cuts: tokens that were cut off each (m,).
        order: places of these rows in the store (n,).
    """

    store: Store
    sizes: Indices
    cuts: NDArray[np.int32]
    order: Indices

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedRows": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.chosen(np.arange(len(self), dtype=np.intp)[index])
        return self.store[int(self.order[index])]

    @property
    def lengths(self) -> Indices:
        """Tokens of each row (n,)."""
        return self.sizes[self.order]

    @property
    def truncated(self) -> int:
        """Number of rows that were cut."""
        return int(np.count_nonzero(self.cuts[self.order]))

    @property
    def whole_lengths(self) -> Indices:
        """Tokens of each row before it was cut (n,)."""
        return (self.sizes + self.cuts)[self.order]

    def chosen(self, places: Indices) -> "PackedRows":
        """Return the rows at these places."""
        return PackedRows(self.store, self.sizes, self.cuts, self.order[places])


def pack(pieces: Iterable[Sequence[Any]]) -> PackedRows:
    """Pack encoded rows that come in pieces: examples, or records of several examples; others are kept as they are."""
    packer: _ExamplePacker | _RecordPacker | _ListPacker | None = None
    sizes: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    cuts: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for rows in pieces:
        if rows:
            packer = packer or _packer_of(rows[0])
            packer.add(rows)
            sizes.append(np.array([len(row) for row in rows], np.intp))
            cuts.append(np.array([row.cut for row in rows], np.int32))
    lengths = np.concatenate(sizes)
    store: Store = packer.store() if packer else []
    return PackedRows(store, lengths, np.concatenate(cuts), np.arange(len(lengths), dtype=np.intp))


@dataclass(frozen=True, eq=False)
class _ExampleStore:
    """Tokens of all examples (t,), where each begins and the last ends (m + 1,), and targets that are not tokens."""

    tokens: Ids
    offsets: NDArray[np.int64]
    targets: Sequence[Any]
    cuts: NDArray[np.int32]

    def __getitem__(self, place: int) -> Example:
        tokens = self.tokens[self.offsets[place] : self.offsets[place + 1]]
        targets, cut = self.targets[place], int(self.cuts[place])
        if targets is not None:
            return Example(tokens, targets, cut)
        hidden = tokens < 0
        return Example(np.where(hidden, ~tokens, tokens), np.where(hidden, np.int32(IGNORE), tokens), cut)


class _ExamplePacker:
    def __init__(self) -> None:
        self._tokens: list[Ids] = [np.zeros(0, np.int32)]
        self._sizes: list[int] = [0]
        self._targets: list[Any] = []
        self._cuts: list[int] = []

    def add(self, rows: Sequence[Example]) -> None:
        """Take some examples."""
        tokens = [_tokens_of(row) for row in rows]
        self._tokens.append(np.concatenate([ids for ids, _ in tokens]))
        self._targets += [targets for _, targets in tokens]
        self._sizes += [len(row.ids) for row in rows]
        self._cuts += [row.cut for row in rows]

    def store(self) -> _ExampleStore:
        """Return all of them."""
        offsets = np.cumsum(self._sizes, dtype=np.int64)
        return _ExampleStore(np.concatenate(self._tokens), offsets, self._targets, np.array(self._cuts, np.int32))


def _tokens_of(row: Example) -> tuple[Ids, Any]:
    """Return the ids with those that are not learned as complements, and None; or ids and targets as they are."""
    ids, targets = row.ids, row.targets
    if not isinstance(targets, np.ndarray) or (targets.dtype, targets.shape) != (ids.dtype, ids.shape):
        return ids, targets
    if ((targets == IGNORE) | (targets == ids)).all():
        return np.where(targets == IGNORE, ~ids, ids).astype(np.int32, copy=False), None
    return ids, targets


@dataclass(frozen=True, eq=False)
class _RecordStore:
    """Records of examples: their class, and a store for each of its fields."""

    kind: type
    parts: Sequence[_ExampleStore]

    def __getitem__(self, place: int) -> Any:
        return self.kind(*(part[place] for part in self.parts))


class _RecordPacker:
    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._parts = {each.name: _ExamplePacker() for each in fields(kind)}

    def add(self, rows: Sequence[Any]) -> None:
        """Take some records."""
        for name, packer in self._parts.items():
            packer.add([getattr(row, name) for row in rows])

    def store(self) -> _RecordStore:
        """Return all of them."""
        return _RecordStore(self._kind, [packer.store() for packer in self._parts.values()])


class _ListPacker:
    def __init__(self) -> None:
        self._rows: list[Any] = []

    def add(self, rows: Sequence[Any]) -> None:
        """Take some rows."""
        self._rows += rows

    def store(self) -> list[Any]:
        """Return all of them."""
        return self._rows


def _packer_of(row: Any) -> _ExamplePacker | _RecordPacker | _ListPacker:
    if _is_plain(row):
        return _ExamplePacker()
    if is_dataclass(row) and all(_is_plain(getattr(row, each.name)) for each in fields(row)):
        return _RecordPacker(type(row))
    return _ListPacker()


def _is_plain(value: Any) -> bool:
    """Return whether a value is an example of which every field is packed."""
    return type(value) is Example and {each.name for each in fields(value)} == {"ids", "targets", "cut"}
