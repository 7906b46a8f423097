"""The columns of rows whose settings are not known yet: kinds of values, lengths, and how many differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from client.data.batch_order import Indices
from client.data.chats.messages import list_of
from client.data.labels import MOST
from client.data.row_checks import is_filled
from client.data.rows import Chunk
from client.data.targets.numbers import as_number
from client.objectives.encoding import BadPlace

_SCALAR = (str, int, float)


@dataclass(frozen=True, eq=False)
class Column:
    """A column.

    Args:
        name: of it.
        kind: of most of its values: "text", "number", "truth", "chat", "list", "object", or "empty".
        filled: rows that have a value in it.
        sizes: characters of its texts or chats (n,).
        values: rows of each value, of texts, numbers, truth values and lists of these, as tuples; empty if there are
            too many different ones.
        fractions: all values are numbers, or texts that read as such, and one is not whole.
    """

    name: str
    kind: str
    filled: int
    sizes: Indices
    values: Mapping[Any, int]
    fractions: bool = False


@dataclass(frozen=True)
class Survey:
    """Rows of a file, its columns, and the places without a row."""

    rows: int
    columns: tuple[Column, ...]
    bad: tuple[BadPlace, ...]

    def column(self, name: str) -> Column:
        """Return the column of this name, which exists."""
        return next(each for each in self.columns if each.name == name)


@dataclass
class _Open:
    """A column that is being read."""

    kinds: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    values: Counter[Any] = field(default_factory=Counter)
    many: bool = False
    numbers: bool = True
    fractions: bool = False

    def take(self, value: Any) -> None:
        """Take a value that is there."""
        self.kinds[kind := kind_of(value)] += 1
        if isinstance(value, str):
            self.sizes.append(len(value))
        elif kind == "chat":
            self.sizes.append(
                sum(len(text) for turn in list_of(value) for text in turn.values() if isinstance(text, str))
            )
        number = as_number(value) if self.numbers else None
        self.numbers = number is not None
        self.fractions |= number is not None and not number.is_integer()
        value = tuple(value) if kind == "list" and all(isinstance(each, _SCALAR) for each in value) else value
        if not self.many and isinstance(value, (*_SCALAR, tuple)):
            self.values[value] += 1
            self.many = len(self.values) > MOST
            if self.many:
                self.values.clear()

    def closed(self, name: str) -> Column:
        """Return what was read."""
        kind = max(self.kinds, key=self.kinds.__getitem__, default="empty")
        fractions = self.numbers and self.fractions
        return Column(name, kind, self.kinds.total(), np.array(self.sizes, np.intp), self.values, fractions)


def survey(chunks: Iterable[Chunk]) -> Survey:
    """Read all rows, piece by piece."""
    found: dict[str, _Open] = {}
    rows, bad = 0, []
    for chunk in chunks:
        rows += len(chunk)
        bad += [BadPlace(chunk.file, chunk.unit, each.line, each.reason) for each in chunk.bad]
        for name in chunk.columns:
            found.setdefault(name, _Open())
        for row in chunk:
            for name, value in row.fields.items():
                if is_filled(value):
                    found.setdefault(name, _Open()).take(value)
    return Survey(rows, tuple(column.closed(name) for name, column in found.items()), tuple(bad))


def kind_of(value: Any) -> str:
    """Return the kind of a value; a chat may be the text of one, or an object of lists."""
    turns = list_of(value)
    if turns and all(isinstance(each, Mapping) and {"role", "from"} & each.keys() for each in turns):
        return "chat"
    kinds = ((bool, "truth"), (int | float, "number"), (str, "text"), (list, "list"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")
