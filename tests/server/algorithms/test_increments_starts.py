"""The start of a round: B = 0 beside an A that is warm, fresh, Gaussian, or common to all clients."""

import numpy as np
import pytest

from common.adapters import lowrank
from common.adapters.codec import encode_adapter
from common.protocol.assignment import RankPattern, Update
from common.protocol.messages import pack_update
from common.settings.recipe import LoraSettings
from server.algorithms import WeightedUpdate
from tests.helpers.server import oracle
from tests.helpers.server.exchange import dense
from tests.helpers.server.oracle import MIXED, SHAPES, delta, make, send

RANKS = (2, 5, 16)


def after_rounds(count, ranks=RANKS, cohort=RANKS, **options):
    """Return the algorithm, its state after some rounds, and the updates sent in the last one."""
    algorithm = make(ranks=ranks, **options)
    state, sent = algorithm.initial(SHAPES), []
    for _ in range(count):
        sent = send(algorithm, state, cohort)
        state = oracle.reduce(algorithm, state, sent)
    return algorithm, state, sent


def start(algorithm, state, rank=16):
    return algorithm.assign(state, "ada", RankPattern(rank)).start


def orthonormal(a):
    return np.allclose(a @ a.T, np.eye(len(a)), atol=1e-6)


@pytest.mark.parametrize("a", ["warm", "fresh", "gaussian"])
@pytest.mark.parametrize("count", [0, 2])
def test_a_round_starts_at_zero(a, count):
    algorithm, state, _ = after_rounds(count, a=a)
    for rank in RANKS:
        for name, factors in start(algorithm, state, rank).items():
            assert factors.rank == min(rank, *SHAPES[name])
            assert not factors.b.any()
            assert factors.a.any(axis=1).all()


@pytest.mark.parametrize("cohort", [(2, 1), (16, 16, 16)])
def test_a_warm_a_goes_on_where_the_last_sum_pointed(cohort):
    algorithm, state, sent = after_rounds(2, ranks=(1, 2, 16), cohort=cohort)
    for name, factors in start(algorithm, state).items():
        assert orthonormal(factors.a)
        top = np.linalg.svd(delta(sent, name))[2][: min(3 if 16 not in cohort else 16, factors.rank)]
        assert np.allclose(np.abs(np.sum(top * factors.a[: len(top)], axis=1)), 1, atol=1e-5)


def test_a_fresh_a_is_orthonormal_and_points_nowhere():
    algorithm, state, sent = after_rounds(2, a="fresh")
    factors = start(algorithm, state)["square"]
    assert orthonormal(factors.a)
    top = np.linalg.svd(delta(sent, "square"))[2][0]
    assert np.linalg.norm(factors.a @ top) < 0.9


def test_a_gaussian_a_has_the_spread_of_the_papers():
    algorithm = make(ranks=(64,), a="gaussian")
    a = start(algorithm, algorithm.initial({"q": (64, 400)}), 64)["q"].a
    assert np.std(a) == pytest.approx(1 / np.sqrt(400), rel=0.03)
    assert abs(np.mean(a)) < 0.1 * np.std(a)
    assert not orthonormal(a)


@pytest.mark.parametrize("a", ["warm", "fresh"])
def test_rows_for_a_new_head_are_longer(a):
    algorithm, state, _ = after_rounds(1, a=a, head=["wide"])
    lengths = {name: np.linalg.norm(f.a, axis=1) for name, f in start(algorithm, state).items()}
    assert np.allclose(lengths.pop("wide"), np.sqrt(70))
    assert all(np.allclose(rest, 1) for rest in lengths.values())


def test_a_gaussian_head_has_entries_of_size_1():
    algorithm = make(ranks=(64,), a="gaussian", head=["q"])
    a = start(algorithm, algorithm.initial({"q": (64, 400)}), 64)["q"].a
    assert np.std(a) == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("a", ["fresh", "gaussian"])
def test_a_draw_depends_on_seed_round_and_module_alone(a):
    def draw(seed=1, count=1, name="square", ranks=RANKS):
        algorithm, state, _ = after_rounds(count, seed=seed, a=a, ranks=ranks)
        return start(algorithm, state)[name].a

    assert np.array_equal(draw(), draw())
    for other in (draw(seed=2), draw(count=2), draw(count=0)):
        assert np.abs(draw() - other).max() > 0.01
    same_shape = {"one": (64, 64), "two": (64, 64)}
    algorithm = make(a=a)
    one, two = start(algorithm, algorithm.initial(same_shape)).values()
    assert np.abs(one.a - two.a).max() > 0.01


def test_what_completes_a_warm_a_is_drawn_anew_in_each_round():
    algorithm, state, _ = after_rounds(1, ranks=(1, 16), cohort=(1,))
    again = oracle.reduce(algorithm, state, send(algorithm, state, (1,)))
    one, two = start(algorithm, state)["square"].a, start(algorithm, again)["square"].a
    assert np.abs(one[1:] - two[1:]).max() > 0.01


def test_a_sum_of_zero_starts_fresh():
    algorithm = make(ranks=(16,))
    state = algorithm.initial(SHAPES)
    idle = WeightedUpdate(1.0, 16, start(algorithm, state))
    after = algorithm.reduce(state, [idle])
    assert all(orthonormal(factors.a) for factors in start(algorithm, after).values())
    assert lowrank.total_norm(algorithm.total_update(after).values()) == 0


# --- one common A, of which only B is trained ---


def test_every_rank_gets_the_first_rows_of_one_a():
    algorithm, state, _ = after_rounds(1, ranks=MIXED, cohort=MIXED, mode="b")
    whole = start(algorithm, state, 64)
    for rank in MIXED:
        assignment = algorithm.assign(state, "ada", RankPattern(rank))
        assert assignment.trains == "b"
        assert all(f.a.tobytes() == whole[name].a[:rank].tobytes() for name, f in assignment.start.items())


def test_the_plain_sum_of_b_is_the_stack():
    algorithm, state, sent = after_rounds(1, mode="b", ranks=MIXED, cohort=MIXED)
    for name in SHAPES:
        stacked = dense(lowrank.stack((update.share, update.modules[name]) for update in sent))
        gap = np.linalg.norm(dense(algorithm.total_update(state)[name]) - stacked)
        assert gap <= 1e-12 * np.linalg.norm(stacked)


def test_an_a_that_was_lent_does_not_travel_back():
    sizes = {mode: len(send(make(mode=mode), make().initial(SHAPES), (16,))[0].blob) for mode in ("b", "both")}
    assert 0.4 < sizes["b"] / sizes["both"] < 0.6
    algorithm = make(mode="b")
    (update,) = send(algorithm, algorithm.initial(SHAPES), (16,))
    assert pack_update(Update(update.modules, 1, 1, 0.0), "b") == update.blob != encode_adapter(update.modules)


def test_the_scale_of_an_assignment_is_alpha_over_rank():
    for mode in ("both", "b"):
        algorithm = make(ranks=(4, 8), alpha=16.0, mode=mode)
        state = algorithm.initial(SHAPES)
        assert [algorithm.assign(state, "ada", RankPattern(rank)).scaling for rank in (4, 8)] == [4.0, 2.0]
    assert LoraSettings().scaling(4) == 1.0
