"""The change that trained factors make: dW_i - dW_start by module, its norm, and whether two are one change."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import sqrt

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Array, Factors

Modules = Mapping[str, Factors]
UNSEEN = 1e-10
"""Share of ||B|| ||A|| that `change_norm` adds to ||B A||.

Where columns cancel each other, float64 knows B A only to about 1e-15 ||B|| ||A||, so that a norm of 0 there may be
something else in the next sum. For factors that do not cancel it changes no digit that counts.
"""
SAME = 1e-4
"""Relative distance up to which two changes are one: coordinates of condition 1e3 cost float32 as much."""


def change_terms(modules: Modules, start: Modules, name: str, weight: float = 1.0) -> Iterator[tuple[float, Factors]]:
    """Yield the terms of weight (dW_i - dW_start) of a module; a start whose product is zero is left out."""
    yield weight, modules[name]
    if name in start and start[name].b.any():
        yield -weight, start[name]


def change_norm(modules: Modules, start: Modules) -> float:
    """Return ||dW_i - dW_start|| over all modules, with what cancellation may hide in it."""
    return sqrt(sum(_norm(list(change_terms(modules, start, name))) ** 2 for name in modules))


def _norm(terms: Sequence[tuple[float, Factors]]) -> float:
    hidden = sum(frobenius(factors.b) * frobenius(factors.a) for _, factors in terms)
    return lowrank.norm(lowrank.stack(terms)) + UNSEEN * hidden


def frobenius(array: Array) -> float:
    """Return the Frobenius norm in float64."""
    return float(np.linalg.norm(array.astype("f8")))


def is_same_change(left: tuple[Modules, Modules], right: tuple[Modules, Modules], norm: float) -> bool:
    """Return whether two changes, each of trained factors from their start, differ by at most `SAME` of the norm."""
    terms = (chain(change_terms(*left, name), change_terms(*right, name, weight=-1.0)) for name in left[0])
    return lowrank.total_norm(map(lowrank.stack, terms)) <= SAME * norm
