"""Ways to deal the rows of a data set out to clients, by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import ConfigError, DataError, nearest
from common.seeding import rng
from common.settings.recipe import Clients
from simulations.corpora.corpus import CorpusRow
from simulations.partition.node_names import node_names

Rows = Sequence[CorpusRow]
Dealt = Mapping[str, Iterable[int]]
_DRAWS = 20


@dataclass(frozen=True)
class Partition:
    """A way to deal rows out to clients.

    Args:
        deal: returns row numbers by client's name, for the rows, settings, seed and column of the class of `split`.
        needs: keys of [clients] that must be set; with "count" there must also be count times min_rows rows.
    """

    deal: Callable[[Rows, Clients, int, str | None], Dealt]
    needs: tuple[str, ...]


def _iid(rows: Rows, clients: Clients, seed: int, label: str | None) -> Dealt:
    """Deal the rows out at random, in equal parts."""
    return _number(np.array_split(rng(seed, "iid").permutation(len(rows)), clients.count or 0))


def _dirichlet(rows: Rows, clients: Clients, seed: int, label: str | None) -> Dealt:
    """Deal each class out in proportions drawn from Dir(beta) over the clients.

    The first of several draws that fills all clients counts, else the last, evened out. Yurochkin et al.,
    arXiv 1905.12022, section 4.
    """
    classes, random = _classes(rows, label), rng(seed, "dirichlet")
    for _ in range(_DRAWS):
        parts = _draw(classes, clients.count or 0, clients.beta, random)
        if min(map(len, parts)) >= clients.min_rows:
            return _number(parts)
    return _number(_even_out(parts, clients.min_rows))


def _classes(rows: Rows, label: str | None) -> list[list[int]]:
    if label is None:
        raise ConfigError(
            '[clients] partition = "dirichlet" deals out rows by their class, and rows of this [data] task or '
            'problem_type have not one class each; use "iid", or "column" with [clients] column'
        )
    return list(group_by_value(rows, label).values())


def _draw(classes: list[list[int]], count: int, beta: float, random: np.random.Generator) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in range(count)]
    for indices in classes:
        ends = np.cumsum(random.dirichlet(np.full(count, beta)))[:-1] * len(indices)
        for part, dealt in zip(parts, np.split(random.permutation(indices), ends.round().astype(int)), strict=True):
            part.extend(dealt.tolist())
    return parts


def _even_out(parts: list[list[int]], min_rows: int) -> list[list[int]]:
    """Move rows from the largest client to the smallest until each has enough."""
    parts = [list(part) for part in parts]
    while len(smallest := min(parts, key=len)) < min_rows:
        smallest.append(max(parts, key=len).pop())
    return parts


def _by_column(rows: Rows, clients: Clients, seed: int, label: str | None) -> Dealt:
    """Give a client the rows that name it in the column."""
    owned = group_by_value(rows, clients.column or "")
    if clients.count not in (None, len(owned)):
        raise ConfigError(
            f"[clients] count = {clients.count}, but column {clients.column!r} names {len(owned)} clients; remove count"
        )
    for value, indices in owned.items():
        if len(indices) < clients.min_rows:
            raise DataError(
                f"[clients] column {clients.column!r}: {value!r} has {len(indices)} training rows, "
                f"and min_rows = {clients.min_rows}; lower min_rows, or leave that client's rows out"
            )
    return dict(zip(node_names(owned), owned.values(), strict=True))


PARTITIONS: Mapping[str, Partition] = {
    "iid": Partition(_iid, needs=("count",)),
    "dirichlet": Partition(_dirichlet, needs=("count",)),
    "column": Partition(_by_column, needs=("column",)),
}


def _number(parts: Sequence[Iterable[int]]) -> Dealt:
    width = max(2, len(str(len(parts) - 1)))
    return {f"client-{number:0{width}}": part for number, part in enumerate(parts)}


def group_by_value(rows: Rows, column: str) -> dict[str, list[int]]:
    """Return row numbers by the value of a column, in order of the value."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.get(column) is None:
            raise DataError(f"row {index + 1} has no value in column {column!r}{nearest(column, row)}; add one")
        groups.setdefault(str(row[column]), []).append(index)
    return dict(sorted(groups.items()))
