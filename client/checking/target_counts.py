"""What rows have to give where that is no single class, by group of rows: numbers, and sizes of sets of labels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Numbers:
    """The numbers of one output in one group of rows: least, mean, most, and standard deviation."""

    group: str
    output: str
    least: float
    mean: float
    most: float
    deviation: float


def count_numbers(groups: Mapping[str, Iterable[Any]], outputs: Sequence[str]) -> list[Numbers]:
    """Return the numbers of each group of encoded rows and of all of them, for each output."""
    each = {name: _targets(rows) for name, rows in groups.items()}
    found = {name: values for name, values in each.items() if len(values)}
    if len(found) > 1:
        found["all"] = np.concatenate([*found.values()])
    return [
        Numbers(name, output, *(float(part) for part in (v.min(), v.mean(), v.max(), v.std())))
        for name, values in found.items()
        for output, v in zip(outputs, values.T, strict=True)
    ]


def set_sizes(groups: Iterable[Iterable[Any]]) -> NDArray[np.intp]:
    """Return how many labels each encoded row has (n,)."""
    return np.concatenate([np.zeros(0, np.intp), *((_targets(rows) > 0).sum(-1) for rows in groups)]).astype(np.intp)


def _targets(rows: Iterable[Any]) -> NDArray[np.float64]:
    return np.array([row.targets for row in rows], np.float64)
