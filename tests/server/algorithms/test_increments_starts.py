"""The start of a round: B = 0 beside an A that is warm, fresh, Gaussian, or common to all clients."""

import numpy as np
import pytest

from common.adapters import lowrank
from common.adapters.codec import encode_adapter
from common.errors import ConfigError
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


# --- new directions where A is not trained ---


def row_space(algorithm, state, name="square"):
    """Return the rank of the global update: its row space is all that clients have ever moved in."""
    return np.linalg.matrix_rank(dense(algorithm.total_update(state)[name]), tol=1e-6)


def after_b(count, **options):
    return after_rounds(count, ranks=(2, 5, 8), cohort=(2, 5, 8), mode="b", **options)


@pytest.mark.parametrize("algorithm", ["increments", "fedlin"])
@pytest.mark.parametrize(("hold", "redrawn_twice"), [("auto", 3), (1, 3), (2, 5), (3, 7)])
def test_after_two_redraws_the_row_space_is_more_than_one_a(algorithm, hold, redrawn_twice):
    held = after_b(redrawn_twice - 1 if hold in ("auto", 1) else hold, algorithm=algorithm, hold=hold)
    assert row_space(*held[:2]) == (8 + 4 if hold in ("auto", 1) else 8)
    assert row_space(*after_b(redrawn_twice, algorithm=algorithm, hold=hold)[:2]) == 8 + 2 * 4


def test_control_a_warm_a_that_is_never_redrawn_keeps_its_first_span():
    algorithm, state, _ = after_b(6, hold="never")
    assert row_space(algorithm, state) == 8
    first, last = (start(algorithm, each, 8)["square"].a for each in (algorithm.initial(SHAPES), state))
    assert np.linalg.svd(first @ last.T)[1].min() == pytest.approx(1, abs=1e-5)  # cosines between the spans


def test_half_of_a_redrawn_a_is_where_the_last_sum_pointed():
    algorithm, state, sent = after_b(2, hold=2)
    a = start(algorithm, state, 8)["square"].a
    assert orthonormal(a)
    inside = np.linalg.norm(a @ np.linalg.svd(delta(sent, "square"))[2][:8].T, axis=1)
    assert np.allclose(inside[1::2], 1, atol=1e-5)
    assert np.all(inside[::2] < 0.9)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_nodes_of_any_rank_leave_their_first_span(rank):
    """Whatever the largest rank is that the run allows."""
    found = [
        after_rounds(5, ranks=(rank, 8), cohort=(rank,) * 3, mode="b", hold=hold)[:2] for hold in ("auto", "never")
    ]
    assert row_space(*found[0]) == rank + 4 * -(-rank // 2)
    assert row_space(*found[1]) == rank  # control


def test_an_a_of_one_row_is_new_at_each_redraw():
    algorithm, state, _ = after_rounds(3, ranks=(1,), cohort=(1, 1), mode="b")
    assert row_space(algorithm, state) == 3
    algorithm, state, _ = after_rounds(3, ranks=(1,), cohort=(1, 1), mode="b", hold="never")
    assert row_space(algorithm, state) == 1  # control


@pytest.mark.parametrize("mode", ["both", "b"])
@pytest.mark.parametrize("a", ["warm", "fresh", "gaussian"])
def test_hold_is_as_if_it_was_never_there_but_for_a_warm_a_that_is_not_trained(mode, a):
    auto, never = (after_rounds(3, mode=mode, a=a, hold=hold)[1].parts for hold in ("auto", "never"))
    same = all(f.a.tobytes() == never["next"][name].a.tobytes() for name, f in auto["next"].items())
    assert same == ((mode, a) != ("b", "warm"))


@pytest.mark.parametrize("algorithm", ["increments", "fedlin"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"mode": "both"},
            'hold = 3 is for a warm A that is not trained, but mode = "both" trains it; remove hold',
        ),
        ({"mode": "b", "a": "fresh"}, 'but a = "fresh" draws a new one in each round; remove hold, or set a = "warm"'),
        ({"mode": "b", "a": "gaussian"}, 'but a = "gaussian" draws a new one'),
    ],
)
def test_a_hold_that_means_nothing_is_refused(algorithm, options, said):
    with pytest.raises(ConfigError, match=said if algorithm == "increments" or options["mode"] == "b" else "fedlin"):
        make(algorithm, hold=3, **options)
    make(algorithm, hold="auto", **{"mode": "b"} | {k: v for k, v in options.items() if k == "a"})  # control
    make(algorithm, hold=3, mode="b")  # control
