"""Updates that are one and the same are found in any coordinates; others of the same size are not."""

import numpy as np
import pytest

from common.adapters.adapter import Adapter, Factors
from common.adapters.change import change_norm
from common.protocol.assignment import Assignment
from server.algorithms.weighting import ClientUpdate
from server.clipping.identical import find_identical
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.spoilt_nodes import turn

SHAPES = {"q": (8, 12, 4), "v": (6, 5, 4)}
START = random_adapter(SHAPES, 99)
AT_ZERO = Adapter({name: Factors(f.a, 0 * f.b) for name, f in START.items()})


def update(name, modules, start=AT_ZERO, sha=""):
    order = Assignment(Adapter(), start)
    return ClientUpdate(name, 4, 1, 1, modules, order, change_norm(modules, start), update=sha or name)


def turned(modules):
    return Adapter({name: turn(factors) for name, factors in modules.items()})


def times(modules, factor):
    return Adapter({name: Factors(f.a, factor * f.b) for name, f in modules.items()})


@pytest.mark.parametrize("start", [AT_ZERO, START])
def test_one_update_in_three_forms_is_one(start):
    one, other = random_adapter(SHAPES, 1), random_adapter(SHAPES, 2)
    padded = Adapter({n: Factors(np.vstack([f.a, f.a]), np.hstack([f.b, np.zeros_like(f.b)])) for n, f in one.items()})
    sent = {"ada": one, "bob": other, "cyd": turned(one), "dan": one, "eve": padded}
    found = find_identical([update(name, modules, start) for name, modules in sent.items()])
    assert found == {"ada": "cyd", "cyd": "ada", "dan": "ada", "eve": "ada"}


def test_bytes_that_are_equal_are_enough():
    one = random_adapter(SHAPES, 1)
    assert find_identical([update("ada", one, sha="x"), update("bob", one, sha="x")]) == {"ada": "bob", "bob": "ada"}


def test_other_updates_of_one_norm_are_not_the_same():
    one, other = random_adapter(SHAPES, 1), random_adapter(SHAPES, 2)
    level = times(other, change_norm(one, AT_ZERO) / change_norm(other, AT_ZERO))
    assert find_identical([update("ada", one), update("bob", level), update("cyd", times(one, -1.0))]) == {}
    assert find_identical([update("ada", one), update("bob", times(one, 1.001))]) == {}


def test_nodes_that_moved_nothing_are_alike():
    sent = [update("ada", AT_ZERO), update("bob", random_adapter(SHAPES, 1)), update("cyd", AT_ZERO)]
    assert find_identical(sent) == {"ada": "cyd", "cyd": "ada"}
    assert find_identical([]) == {}
