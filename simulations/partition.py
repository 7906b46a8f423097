"""The partition of a data set: one common test set is held out, the remaining rows are dealt out to clients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import ConfigError, DataError, look_up, nearest
from common.seeding import rng
from common.settings.recipe import Clients
from simulations.corpora.corpus import CorpusRow
from simulations.node_names import node_names

Rows = Sequence[CorpusRow]
Dealt = Mapping[str, Iterable[int]]

_DRAWS = 20
_MEANINGS = {"column": ", the name of the column with each row's owner"}


@dataclass(frozen=True)
class Shard:
    """The rows of one client."""

    name: str
    rows: tuple[CorpusRow, ...]


@dataclass(frozen=True)
class Partition:
    """A way to deal rows out to clients.

    Args:
        deal: returns row numbers by client's name, for the rows, settings, seed and column of the class of `split`.
        needs: keys of [clients] that must be set; with "count" there must also be count times min_rows rows.
    """

    deal: Callable[[Rows, Clients, int, str | None], Dealt]
    needs: tuple[str, ...]


def hold_out(
    rows: Rows, count: int, seed: int, label: str | None
) -> tuple[tuple[CorpusRow, ...], tuple[CorpusRow, ...]]:
    """Return the rows to train on and at most `count` rows to test on, both in their old order.

    With a column `label` every class gives the same number of test rows, or half of its rows if it has too few; without
    one, the test rows are drawn at random and are at most half of all rows.

    Raises:
        DataError: a row lacks the label.
    """
    random = rng(seed, "hold-out")
    groups = _group_by_value(rows, label) if label else {"": list(range(len(rows)))}
    queues = [random.permutation(indices)[: len(indices) // 2].tolist() for indices in groups.values()]
    # One row of each class in turn, so that a small `count` still covers the classes evenly.
    turns = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
    test = set(turns[:count])
    return (
        tuple(row for index, row in enumerate(rows) if index not in test),
        tuple(row for index, row in enumerate(rows) if index in test),
    )


def split(rows: Rows, clients: Clients, seed: int, label: str | None) -> tuple[Shard, ...]:
    """Put every row in the shard of exactly one client, with no shard below `clients.min_rows`.

    Args:
        rows: of one data set, without its test rows.
        clients: the partition's name and settings.
        seed: of the random streams.
        label: the column of the class; None for a task without classes.

    Raises:
        ConfigError: there is no such partition, or it does not fit the data.
        DataError: a row lacks the column, or there are too few rows.
    """
    partition = find_partition(clients)
    if "count" in partition.needs and len(rows) < (clients.count or 0) * clients.min_rows:
        raise DataError(
            f"{len(rows)} training rows are too few for [clients] count = {clients.count} times min_rows = "
            f"{clients.min_rows}; lower one of the two, or add rows"
        )
    dealt = partition.deal(rows, clients, seed, label)
    return tuple(Shard(name, tuple(rows[index] for index in sorted(part))) for name, part in dealt.items())


def find_partition(clients: Clients) -> Partition:
    """Return the partition that [clients] partition names.

    Raises:
        ConfigError: there is none of this name, or a key that it needs is not set.
    """
    partition = look_up(PARTITIONS, "[clients] partition", clients.partition)
    for key in partition.needs:
        if getattr(clients, key) is None:
            raise ConfigError(f'partition "{clients.partition}" needs [clients] {key}{_MEANINGS.get(key, "")}')
    return partition


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
    return list(_group_by_value(rows, label).values())


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
    owned = _group_by_value(rows, clients.column or "")
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


def _group_by_value(rows: Rows, column: str) -> dict[str, list[int]]:
    """Return row numbers by the value of a column, in order of the value."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.get(column) is None:
            raise DataError(f"row {index + 1} has no value in column {column!r}{nearest(column, row)}; add one")
        groups.setdefault(str(row[column]), []).append(index)
    return dict(sorted(groups.items()))
