"""One common test set is held out, and the remaining rows are dealt out to clients."""

from dataclasses import dataclass

from common.errors import ConfigError, DataError, look_up
from common.seeding import rng
from common.settings.recipe import Clients
from simulations.corpora.corpus import CorpusRow
from simulations.partition.partitions import PARTITIONS, Partition, Rows, group_by_value

_MEANINGS = {"column": ", the name of the column with each row's owner"}


@dataclass(frozen=True)
class Shard:
    """The rows of one client."""

    name: str
    rows: tuple[CorpusRow, ...]


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
    groups = group_by_value(rows, label) if label else {"": list(range(len(rows)))}
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
