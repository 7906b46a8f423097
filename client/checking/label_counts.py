"""Counts of labels by group of rows, such as a client's; long tables in short."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.data.tokens import Example

_LONGEST = 20
"""Labels that are shown one by one."""


@dataclass(frozen=True)
class Counts:
    """A table of counts: names of its rows and columns, and a count for each of both, in that order."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]

    def totals(self) -> tuple[int, ...]:
        """Return the sum of each row."""
        return tuple(map(sum, self.cells))


def count_labels(groups: Mapping[str, Iterable[Any]], labels: Sequence[str]) -> Counts:
    """Count each label in each group of encoded rows; a row with several labels counts for each."""
    counted = [Counter(label for row in rows for label in _places(row)) for rows in groups.values()]
    cells = tuple(tuple(each[place] for each in counted) for place in range(len(labels)))
    return Counts(tuple(labels), tuple(groups), cells)


def _places(row: Any) -> Iterable[int]:
    if not isinstance(row, Example):
        return ()
    value = np.asarray(row.targets)
    return (int(value),) if value.ndim == 0 else map(int, np.flatnonzero(value > 0))


def shortened(counts: Counts, columns: int) -> Counts:
    """Return the table with at most so many columns (at least 2), and rows, where the rest is summed up.

    Rows of a long table are those with the largest and the smallest sums.
    """
    short = _fewer_rows(counts)
    if len(short.columns) <= columns:
        return short
    kept = columns - 1
    cells = tuple((*row[:kept], sum(row[kept:])) for row in short.cells)
    return Counts(short.rows, (*short.columns[:kept], f"{len(short.columns) - kept} others"), cells)


def _fewer_rows(counts: Counts) -> Counts:
    if len(counts.rows) <= _LONGEST:
        return counts
    totals = counts.totals()
    order = sorted(range(len(totals)), key=lambda place: -totals[place])
    many, rest, few = order[: _LONGEST // 2], order[_LONGEST // 2 : -_LONGEST // 2], order[-_LONGEST // 2 :]
    summed = tuple(sum(counts.cells[place][column] for place in rest) for column in range(len(counts.columns)))
    names = [counts.rows[place] for place in many], [counts.rows[place] for place in few]
    cells = [counts.cells[place] for place in many], [counts.cells[place] for place in few]
    between = f"{len(rest)} others"
    return Counts((*names[0], between, *names[1]), counts.columns, (*cells[0], summed, *cells[1]))


def spread_of_labels(counts: Counts) -> float:
    """Return the mean, over the groups, of the share of labels that a group has rows of."""
    own = [sum(row[column] > 0 for row in counts.cells) for column in range(len(counts.columns))]
    return sum(own) / (len(own) * max(1, len(counts.rows)))
