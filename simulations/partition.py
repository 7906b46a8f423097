"""The partition of a data set: one common test set is held out, the remaining rows are dealt out to clients."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import ConfigError, DataError, nearest
from common.seeding import rng
from common.settings.recipe import Clients
from simulations.corpora.corpus import CorpusRow

_DRAWS = 20
_NAME_LENGTH = 64


@dataclass(frozen=True)
class Shard:
    """The rows of one client."""

    name: str
    rows: tuple[CorpusRow, ...]


def hold_out(
    rows: Sequence[CorpusRow], count: int, seed: int, label: str | None
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


def split(rows: Sequence[CorpusRow], clients: Clients, seed: int, label: str | None) -> tuple[Shard, ...]:
    """Put every row in the shard of exactly one client, with no shard below `clients.min_rows`.

    Args:
        rows: of one data set, without its test rows.
        clients: `iid` deals the rows out at random, in equal parts; `dirichlet` deals each class out in proportions
            drawn from Dir(beta) over the clients (Yurochkin et al., arXiv 1905.12022, section 4); `column` gives a
            client the rows that name it.
        seed: of the random streams.
        label: the column of the class; None for a task without classes.

    Raises:
        ConfigError: the partition does not fit the data.
        DataError: a row lacks the column, or there are too few rows.
    """
    if clients.partition == "column":
        return _natural(rows, clients)
    count = clients.count or 0
    if len(rows) < count * clients.min_rows:
        raise DataError(
            f"{len(rows)} training rows are too few for [clients] count = {count} times min_rows = {clients.min_rows}; "
            "lower one of the two, or add rows"
        )
    if clients.partition == "dirichlet":
        parts = _dirichlet(_classes(rows, label), clients, rng(seed, "dirichlet"))
    else:
        parts = [part.tolist() for part in np.array_split(rng(seed, "iid").permutation(len(rows)), count)]
    width = max(2, len(str(count - 1)))
    return tuple(_shard(f"client-{i:0{width}}", rows, part) for i, part in enumerate(parts))


def _classes(rows: Sequence[CorpusRow], label: str | None) -> list[list[int]]:
    if label is None:
        raise ConfigError(
            '[clients] partition = "dirichlet" deals out rows by their class, and rows of [data] task = "causal-lm" '
            'have none; use "iid", or "column" with [clients] column'
        )
    return list(_group_by_value(rows, label).values())


def _dirichlet(classes: list[list[int]], clients: Clients, random: np.random.Generator) -> list[list[int]]:
    """Return row numbers by client: the first of several draws that fills all clients, else the last, evened out."""
    for _ in range(_DRAWS):
        parts = _draw(classes, clients.count or 0, clients.beta, random)
        if min(map(len, parts)) >= clients.min_rows:
            return parts
    return _even_out(parts, clients.min_rows)


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


def _natural(rows: Sequence[CorpusRow], clients: Clients) -> tuple[Shard, ...]:
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
    return tuple(_shard(name, rows, part) for name, part in zip(names(owned), owned.values(), strict=True))


def _shard(name: str, rows: Sequence[CorpusRow], indices: Iterable[int]) -> Shard:
    return Shard(name, tuple(rows[index] for index in sorted(indices)))


def _group_by_value(rows: Sequence[CorpusRow], column: str) -> dict[str, list[int]]:
    """Return row numbers by the value of a column, in order of the value."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.get(column) is None:
            raise DataError(f"row {index + 1} has no value in column {column!r}{nearest(column, row)}; add one")
        groups.setdefault(str(row[column]), []).append(index)
    return dict(sorted(groups.items()))


def names(values: Iterable[str]) -> tuple[str, ...]:
    """Return a valid node name for each value: ASCII letters, digits and `._-`, no two equal when case is ignored."""
    taken: dict[str, str] = {}
    for value in values:
        name = _first_free(_slug(value), lambda candidate: candidate.casefold() in taken)
        taken[name.casefold()] = name
    return tuple(taken.values())


def _slug(value: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_only).strip("-._")[:_NAME_LENGTH] or "client"


def _first_free(slug: str, is_taken: Callable[[str], bool]) -> str:
    name, number = slug, 1
    while is_taken(name):
        number += 1
        ending = f"-{number}"
        name = slug[: _NAME_LENGTH - len(ending)] + ending
    return name
