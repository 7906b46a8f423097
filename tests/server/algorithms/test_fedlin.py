"""FedLin against an oracle with dense matrices in float64, and where averaging local steps does not get."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.seeding import rng
from server.algorithms.increments import Increments
from server.storage.journal import Journal
from server.storage.journal_reader import verify_journal
from tests.helpers.server.exchange import SHAPES, AdamW, dense
from tests.helpers.server.oracle import make
from tests.helpers.server.runs import FOUR, clients, fresh, plan, run

ROUNDS, STEPS, RATE = 3, 3, 0.02


def settings(rounds=ROUNDS, **server):
    """Return settings whose rates are one constant, as the oracle has it."""
    from dataclasses import replace

    made = plan(rounds, algorithm="fedlin", mode="b", a="fresh", **server)
    return replace(made, train=replace(made.train, steps=STEPS, lr=RATE, schedule="constant", warmup=0))


def target(node, name):
    return rng(node.name, name).standard_normal(SHAPES[name])


def padded(matrix, columns):
    return np.pad(matrix, [(0, 0), (0, columns - matrix.shape[1])])


def oracle_round(total, name, a, corrected=True):
    """Return S after a round of FedLin in one module, from dense matrices: f_i(W) = ||W - T_i||^2 / 2."""
    rows, mass = sum(node.rows for node in FOUR), 0.0
    own = {node.name: a[: min(node.rank, *SHAPES[name])] for node in FOUR}
    gradient = {n.name: (total - target(n, name)) @ own[n.name].T for n in FOUR}
    mean = sum(n.rows / rows * padded(gradient[n.name], len(a)) for n in FOUR)
    for node in FOUR:
        lent = own[node.name]
        shift = mean[:, : len(lent)] - gradient[node.name] if corrected else 0.0
        b = np.zeros((SHAPES[name][0], len(lent)))
        adam = AdamW()
        for _ in range(STEPS):
            b = b + adam.move(RATE, (total + b @ lent - target(node, name)) @ lent.T + shift)
        mass = mass + node.rows / rows * b @ lent
    return total + mass


def states(folder: Path):
    with Journal.open(folder) as journal:
        return journal.last_state()


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_it_is_that_of_dense_matrices(rounds, tmp_path):
    algorithm = make("fedlin", tuple(node.rank for node in FOUR), a="fresh", seed=7)
    run(tmp_path, fresh(), settings(rounds))
    got, expected, averaged = states(tmp_path), {}, {}
    for name, (d, k) in SHAPES.items():
        expected[name] = averaged[name] = np.zeros((d, k))
        for number in range(1, rounds + 1):
            a = next_a(algorithm, name, number)
            expected[name] = oracle_round(expected[name], name, a)
            averaged[name] = oracle_round(averaged[name], name, a, corrected=False)
    gap = {name: np.abs(dense(algorithm.total_update(got)[name]) - expected[name]).max() for name in SHAPES}
    assert max(gap.values()) < 1e-5
    assert max(np.abs(averaged[name] - expected[name]).max() for name in SHAPES) > 1e-2  # control


def next_a(algorithm, name, number):
    """Return the A of a round, which is drawn afresh from its number."""
    nothing = algorithm.initial(SHAPES).parts["mass"][name]
    return Increments._next(algorithm, nothing, number, name).a.astype("f8")


def test_both_phases_are_recorded_as_one_round(tmp_path):
    entries = run(tmp_path, fresh(), settings(2))
    plain = run(tmp_path / "plain", fresh(), plan(2, mode="b"))
    for name, client in clients(entries[-1]).items():
        assert client["bytes_up"] == 2 * clients(plain[-1])[name]["bytes_up"]
        assert client["status"] == "ok"
    assert entries[-1]["metrics"]["aggregation_error"] < 1e-6
    assert verify_journal(tmp_path) == entries


def test_it_needs_a_common_a():
    with pytest.raises(ConfigError, match='mode = "b"'):
        make("fedlin", mode="both")
