"""Rows of a node's own files, one by one and in pieces small enough to hold beside the tokens that they become."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, overload

PIECE = 1024
"""Most rows of a chunk."""


@dataclass(frozen=True)
class Row:
    """A row: its fields by column, and its place in its file.

    Args:
        line: where it starts, from 1; in a file that has no lines, its number.
        fields: value by column.
        file: that it is from, where the rows of several are read as one.
    """

    line: int
    fields: Mapping[str, Any]
    file: Path | None = None


@dataclass(frozen=True)
class BadLine:
    """A place in a file at which there should be a row, and why there is none."""

    line: int
    reason: str


@dataclass(frozen=True)
class Chunk(Sequence[Row]):
    """Neighbouring rows of one file.

    Args:
        rows: in order.
        columns: of all rows that are read together with these.
        file: that they are from.
        unit: what `Row.line` counts: "line" or "row".
        bad: places between them that have no row.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    file: Path
    unit: str = "line"
    bad: tuple[BadLine, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def in_chunks(rows: Sequence[Row], file: Path) -> Iterator[Chunk]:
    """Yield rows that are in memory, of this file unless they name another, in pieces."""
    columns = column_names(rows)
    for own, together in groupby(rows, key=lambda row: row.file or file):
        while piece := tuple(islice(together, PIECE)):
            yield Chunk(piece, columns, own)


def column_names(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that any row has, in order of first appearance; of a chunk, those of all that are read."""
    if isinstance(rows, Chunk):
        return rows.columns
    return tuple(dict.fromkeys(column for row in rows for column in row.fields))


def by_line(rows: Iterable[Row]) -> list[tuple[int, Row]]:
    """Return each row with its line."""
    return [(row.line, row) for row in rows]
