"""A round holds one module at a time of updates and states, which are on disk, and forms no (d, k) matrix."""

import tracemalloc
from functools import partial

import pytest

from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter
from server.algorithms import WeightedUpdate, increments
from server.algorithms.base import store_in_memory
from server.metrics.exactness import aggregation_error, measure_exactness
from server.storage.journal import Journal
from server.storage.spool import spool_update
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.exchange import dense
from tests.helpers.server.oracle import make

MANY = (2, 2, 4, 4, 8, 8, 8, 16, 16, 32, 32)
"""Ranks of a cohort; 132 together."""


def peak(work):
    """Return the most bytes that Python and NumPy added during the work, and its result."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def updates_of(folder, shapes, ranks):
    """Make updates of these ranks that lie on disk."""
    folder.mkdir()
    updates = []
    for number, rank in enumerate(ranks):
        blob = encode_adapter(random_adapter({name: (*shape, rank) for name, shape in shapes.items()}, number))
        updates.append(
            WeightedUpdate(1 / len(ranks), rank, spool_update(folder / str(number), blob, decode_adapter(blob)))
        )
    return updates


def held(updates):
    return [WeightedUpdate(u.share, u.rank, Adapter(dict(u.modules))) for u in updates]


def test_a_round_of_a_large_module_stays_below_one_dense_matrix(tmp_path):
    shapes, dense_matrix = {"q": (4096, 4096)}, 4 * 4096 * 4096
    algorithm = make(ranks=MANY)
    before, updates = algorithm.initial(shapes), updates_of(tmp_path / "many", shapes, MANY)
    reducing, after = peak(lambda: algorithm.reduce(before, updates))
    parts = algorithm.total_update(before), algorithm.total_update(after), algorithm.dropped_update(after)
    checking, error = peak(lambda: aggregation_error(*parts, updates))
    assert error <= 1e-6
    assert max(reducing, checking) < 0.75 * dense_matrix
    assert peak(lambda: dense(updates[0].modules["q"]))[0] > dense_matrix


SHAPES = {f"layer.{number}": (256, 300) for number in range(24)}


@pytest.mark.parametrize("rule", ["increments", "hetlora"])
def test_memory_does_not_grow_with_the_cohort(rule, tmp_path, monkeypatch):
    """At one sum of ranks, which is what an exact sum of one module costs."""
    monkeypatch.setattr(increments, "THREADS", 1)  # How far the peaks of two threads overlap is chance.
    algorithm = make(rule, (4, 40))
    before = algorithm.initial(SHAPES)
    few, many = updates_of(tmp_path / "few", SHAPES, (40, 40)), updates_of(tmp_path / "many", SHAPES, (4,) * 20)
    small, large = (peak(partial(algorithm.reduce, before, updates))[0] for updates in (few, many))
    assert large < 1.05 * small
    sent = sum(factors.a.nbytes + factors.b.nbytes for update in many for factors in update.modules.values())
    assert peak(lambda: algorithm.reduce(before, held(many)))[0] > large + 0.9 * sent


def test_a_module_costs_no_more_than_a_few_dense_ones_however_many_clients(tmp_path):
    """If the sum of ranks exceeds d and k, factors would take more room than the matrix itself."""
    shapes = {"q": (128, 128)}
    algorithm = make(ranks=(16,))
    before = algorithm.initial(shapes)
    few, many = updates_of(tmp_path / "few", shapes, (16,) * 20), updates_of(tmp_path / "many", shapes, (16,) * 200)
    (small, _), (large, after) = (peak(partial(algorithm.reduce, before, updates)) for updates in (few, many))
    parts = algorithm.total_update(before), algorithm.total_update(after), algorithm.dropped_update(after)
    checking, error = peak(lambda: aggregation_error(*parts, many))
    assert error <= 1e-6
    assert max(large, checking) < 1.5 * small


def test_a_round_holds_little_of_what_it_writes(tmp_path):
    """Reduction, exactness and commit, from one checkpoint to the next; S and what the cap drops are far larger."""
    algorithm, shapes = make(ranks=(4,), rank_global=4, rank_kept=16), {f"{i:03}": (256, 256) for i in range(96)}
    updates = updates_of(tmp_path / "updates", shapes, (4,) * 8)
    with Journal.open(tmp_path / "journal") as journal:
        journal.commit(algorithm.initial(shapes), {})

        def round_(keep):
            before = journal.last_state()
            after = algorithm.reduce(before, updates, keep)
            measure_exactness(algorithm, before, after, updates)
            journal.commit(after, {})

        round_(journal.keep)
        held, _ = peak(partial(round_, journal.keep))
        control, _ = peak(partial(round_, store_in_memory))
        size = sum(
            array.nbytes for adapter in journal.last_state().parts.values() for array in adapter.arrays().values()
        )
    assert size > 10 * 2**20
    assert held < 0.3 * size
    assert control > 0.7 * size
