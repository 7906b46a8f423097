"""The rows of a data set that has test rows of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    groups: dict[object, list[int]] = {}
    for number, row in enumerate(rows):
        if row[SPLIT] == "test":
            groups.setdefault(row.get(prompt, number), []).append(number)
    test: list[int] = []
    together = list(groups.values())
    for place in rng(seed, "own test").permutation(len(together)):
        if len(test) + len(together[place]) > count:
            break
        test += together[place]
    if count and groups and not test:
        most = max(map(len, together))
        raise ConfigError(
            f"[data] test_rows = {count} has no room for all completions of a prompt; set it to {most} or more, or to 0"
        )
    return [number for number, row in enumerate(rows) if row[SPLIT] == "train"], sorted(test)
