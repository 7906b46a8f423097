"""The rows of a data set that has test rows of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.seeding import rng
from simulations.corpora.paper.registry import SPLIT

Fields = Mapping[str, Any]


def has_own_test(row: Fields) -> bool:
    """Return whether a row of a corpus says if it is to train or to test on."""
    return SPLIT in row


def own_test(rows: Sequence[Fields], count: int, seed: int, prompt: str) -> tuple[list[int], list[int]]:
    """Return the numbers of the rows to train on, and of at most `count` rows to test on, both in their old order.

    Rows with the same text in the column `prompt` are taken together, since each is a reference for one text; where
    there is no such column, each row is on its own. Which are taken is drawn at random.

    Raises:
        ConfigError: a prompt that is drawn first has more rows than `count`, which is not 0.
    """
    groups = group_by_prompt({n: row for n, row in enumerate(rows) if row[SPLIT] == "test"}, prompt)
    test = draw_groups(groups, count, rng(seed, "own test"))
    if count and groups and not test:
        most = max(map(len, groups))
        raise ConfigError(
            f"[data] test_rows = {count} has no room for all completions of a prompt; set it to {most} or more, or to 0"
        )
    return [number for number, row in enumerate(rows) if row[SPLIT] == "train"], test


def group_by_prompt(rows: Mapping[int, Fields], prompt: str) -> list[list[int]]:
    """Return the numbers of the rows of each prompt; a row without one is on its own."""
    groups: dict[object, list[int]] = {}
    for number, row in rows.items():
        groups.setdefault(row.get(prompt, number), []).append(number)
    return list(groups.values())


def draw_groups(groups: Sequence[Sequence[int]], count: int, random: np.random.Generator) -> list[int]:
    """Return the numbers, in order, of whole groups drawn at random, until the next has no room in `count`."""
    drawn: list[int] = []
    for place in random.permutation(len(groups)):
        if len(drawn) + len(groups[place]) > count:
            break
        drawn += groups[place]
    return sorted(drawn)
