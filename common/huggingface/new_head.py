"""Modules that a base checkpoint lacks (a new classification head): the same frozen weights on every node.

The last projection starts at zero, so the first loss is ln C; others are drawn from a NumPy Philox stream keyed by
their name; biases are zero. The head's update is then exact factors like any other target's, and anyone who has
the factors can write the finished head without torch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.seeding import rng

STD = 0.02
"""Standard deviation of a new matrix that is not the last projection; BERT's own initialiser."""


@dataclass(frozen=True)
class HeadModule:
    """A linear module that the checkpoint lacked: its whole name, whether it is the last one, whether it has a bias."""

    name: str
    last: bool
    bias: bool


def initial_weight(module: HeadModule, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return W0 (d, k) of a new head module."""
    if module.last:
        return np.zeros(shape, np.float32)
    draws = rng(module.name).standard_normal(shape, dtype=np.float32)
    return draws * np.float32(STD)
