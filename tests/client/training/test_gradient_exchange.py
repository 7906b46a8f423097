"""Gradients of an exchange: those of the union of the rows, whatever the split; nothing is lost by the compression."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from client.memory.error_memory import Memory
from client.training.gradient_exchange import exchange_gradient
from client.training.not_finite import NotFiniteError
from client.training.passes import LEAST_SCALE, Passes
from common.adapters.adapter import Adapter
from common.protocol.assignment import RankPattern, Training
from common.settings.recipe import Train
from server.algorithms import WeightedUpdate
from tests.helpers.client.training import Steep, bench, random_rows
from tests.helpers.server.oracle import make

TASKS = [("bert", "classification"), ("llama", "causal-lm")]
RANK = 4
WHOLE = 64


def asked(where, trains="both", rank=WHOLE, scaling=0.5, seed=0, b=True):
    """Return an assignment of shared factors of rank 4, to be answered at a rank."""
    start = where.start(RANK, seed, b, scaling, trains, frozen=3)
    return replace(start, returns="compressed-gradient", reply_rank=rank)


def exchange(where, assignment, rows, draw, begin=0, memory=None, name="clinic", **settings):
    training = Training((1e-2,), batch=4, draw=draw, begin=begin, **settings)
    memory = memory or Memory()
    passes = Passes(where.base, where.lora, assignment, name, rows, training, memory.scale)
    return exchange_gradient(passes, memory.unsent)


def matrices(adapter: Adapter):
    return {side: f.b.astype("f8") @ f.a.astype("f8") for side, f in adapter.items()}


def gap(one, other):
    """Relative, over all sides together."""
    size = np.sqrt(sum(np.sum(other[side] ** 2) for side in other))
    return np.sqrt(sum(np.sum((one[side] - other[side]) ** 2) for side in other)) / size


def split(rows, sizes):
    """Return consecutive parts of these sizes."""
    ends = np.cumsum(sizes)
    return [replace(rows, rows=rows.rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize(("kind", "task"), TASKS)
@pytest.mark.parametrize("sizes", [(12,), (1, 11), (3, 4, 5), (1,) * 12, (2, 7, 3)])
@pytest.mark.parametrize("trains", ["both", "b"])
def test_the_sum_over_clients_is_the_gradient_of_the_union_for_any_split(kind, task, sizes, trains):
    where = bench(kind, task)
    rows, order = random_rows(task, [5, 9, 7, 6] * 3, (1, 3)), asked(where, trains)
    parts = [exchange(where, order, part, len(part), name=str(i)) for i, part in enumerate(split(rows, sizes))]
    union = exchange(where, order, rows, 12, name="pooled")
    total = sum(part.tokens for part in parts)
    assert total == union.tokens
    summed = {
        side: sum(part.tokens / total * matrices(part.gradient)[side] for part in parts) for side in union.gradient
    }
    assert gap(summed, matrices(union.gradient)) < 1e-6
    if len(sizes) > 1:  # control: equal weights are another objective
        plain = {side: sum(matrices(part.gradient)[side] / len(parts) for part in parts) for side in summed}
        assert len(set(sizes)) == 1 or gap(plain, summed) > 1e-3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 11)])
def test_several_clients_and_one_on_the_union_take_the_same_steps(optimizer, sizes):
    where, train = bench(), Train(rounds=3, lr={"adam": 1e-2, "sgd": 1.0}[optimizer], schedule="constant", warmup=0)
    rows = random_rows("classification", [5, 9, 7, 6] * 3)
    algorithm = make("fedsgd", (RANK,), optimizer=optimizer, alpha=2 * RANK, train=train)
    state = algorithm.initial(where.lora.shapes)
    for number in range(3):
        one, other = (_step(where, algorithm, state, parts, number) for parts in (split(rows, sizes), [rows]))
        totals = [matrices(algorithm.total_update(each)) for each in (one, other)]
        # Adam divides each coordinate by its own size, and so enlarges float32's rounding of those near 0.
        assert gap(*totals) < {"adam": 1e-5, "sgd": 1e-6}[optimizer]
        if number:  # control: it moved
            assert gap(totals[0], matrices(algorithm.total_update(state))) > 0.1
        state = other


def _step(where, algorithm, state, parts, number):
    found = [_answer(where, algorithm, state, part, number) for part in parts]
    total = sum(each.tokens for each in found)
    updates = [WeightedUpdate(each.tokens / total, RANK, each.gradient) for each in found]
    return algorithm.reduce(state, updates)


def _answer(where, algorithm, state, rows, number):
    order = algorithm.assign(state, "clinic", RankPattern(RANK))
    return exchange(where, order, rows, len(rows), begin=number * len(rows))


@pytest.mark.parametrize("rank", [1, 2])
def test_what_counted_and_what_is_kept_is_what_was_computed(rank):
    where = bench()
    order, rows = asked(where, rank=rank), where.rows
    computed, counted, memory = {}, {}, Memory()
    for number in range(5):
        whole = exchange(where, replace(order, reply_rank=WHOLE), rows, 6, begin=6 * number)
        reply = exchange(where, order, rows, 6, begin=6 * number, memory=memory)
        memory = reply.memory
        for total, found in ((computed, whole), (counted, reply)):
            for side, matrix in matrices(found.gradient).items():
                total[side] = total.get(side, 0) + matrix
    kept = {side: counted[side] + memory.unsent.get(side, 0) for side in counted}
    assert gap(kept, computed) < 1e-6
    assert gap(counted, computed) > 1e-2  # control: something is kept


def test_a_whole_gradient_leaves_nothing():
    where = bench()
    assert not exchange(where, asked(where), where.rows, 6).memory.unsent


def test_an_exchange_goes_on_where_the_last_one_ended():
    where = bench()
    order, rows = asked(where), random_rows("classification", [5, 9, 7, 6] * 6)
    parts = [exchange(where, order, rows, 8, begin=begin) for begin in (0, 8, 16)]
    union = exchange(where, order, rows, len(rows))
    mean = {side: sum(matrices(part.gradient)[side] for part in parts) / 3 for side in union.gradient}
    assert len(rows) == 24
    assert gap(mean, matrices(union.gradient)) < 1e-6
    again = exchange(where, order, rows, 8, begin=0)
    assert gap(matrices(again.gradient), matrices(parts[0].gradient)) == 0  # a round that is repeated draws the same
    assert gap(matrices(parts[1].gradient), matrices(parts[0].gradient)) > 0.1  # control


def test_rate_and_clip_of_the_request_change_nothing():
    where = bench()
    order = asked(where)
    plain, clipped = (exchange(where, order, where.rows, 6, clip=clip) for clip in (0.0, 1e-6))
    assert gap(matrices(plain.gradient), matrices(clipped.gradient)) == 0


def test_the_noise_of_two_halves_is_the_variance_of_the_gradient():
    """Over many draws, the mean of the estimates is the variance that the draws have."""
    where = bench()
    rows, order = random_rows("classification", [6] * 400), asked(where, trains="b")
    found = [exchange(where, order, rows, 8, begin=8 * number) for number in range(50)]
    gradients = np.array([np.concatenate([m.ravel() for m in matrices(f.gradient).values()]) for f in found])
    variance = gradients.var(0, ddof=1).sum()
    assert np.mean([each.noise for each in found]) == pytest.approx(variance, rel=0.2)
    assert exchange(where, order, rows, 1).noise == 0


def test_the_noise_of_a_compressed_gradient_is_that_in_the_directions_it_is_sent_in():
    where = bench()
    rows, order = random_rows("classification", [6] * 12), asked(where, trains="b", rank=1)
    found, whole = exchange(where, order, rows, 12), exchange(where, asked(where, trains="b"), rows, 12)
    passes = Passes(where.base, where.lora, order, "clinic", rows, Training((1e-2,), 4, draw=12), 1.0)
    one, two = (passes.as_matrices(half) for half in passes.halves())
    gaps = {side: (one[side] - two[side]) @ found.gradient[side].a.T for side in one}
    assert found.noise == pytest.approx(sum(np.sum(gap**2) for gap in gaps.values()) / 4, rel=1e-4)
    assert found.noise < 0.9 * whole.noise


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_smaller_types_give_nearly_the_same_gradient(dtype):
    full, small = bench(), bench(dtype=dtype)
    one, other = (exchange(where, asked(where), where.rows, 12) for where in (full, small))
    assert gap(matrices(other.gradient), matrices(one.gradient)) < 0.1


def test_float16_that_overflows_repeats_the_batch_at_half_the_scale_and_keeps_the_scale():
    where = bench(dtype="float16")
    order = asked(where)
    calm = exchange(where, order, where.rows, 12, memory=Memory(scale=2.0**6))
    found = exchange(where, order, where.rows, 12, memory=Memory(scale=2.0**40))
    assert calm.memory.scale == 2.0**6  # control: nothing overflows there
    assert 2.0**6 < found.memory.scale < 2.0**40
    assert gap(matrices(found.gradient), matrices(calm.gradient)) < 0.05
    again = exchange(where, order, where.rows, 12, memory=Memory(scale=found.memory.scale))
    assert again.memory.scale == found.memory.scale
    assert gap(matrices(again.gradient), matrices(found.gradient)) < 0.05


def test_float16_that_is_not_finite_at_any_scale_ends_and_is_not_hidden():
    where = bench(dtype="float16")
    rows = replace(where.rows, objective=Steep(where.rows.objective.data))
    found = exchange(where, asked(where), rows, 4)
    assert found.memory.scale <= LEAST_SCALE * 2
    assert not all(np.isfinite(m).all() for m in matrices(found.gradient).values())


def test_found_B3_rows_without_a_finite_loss_end_an_exchange_by_the_module():
    where = bench()
    order = asked(where)
    huge = replace(order, start=Adapter({n: replace(f, b=f.b * np.float32(1e38)) for n, f in order.start.items()}))
    with pytest.raises(NotFiniteError, match=r"first in bert\.encoder\.layer\.0\.attention\.self\.\w+, a Linear;"):
        exchange(where, huge, where.rows, 4)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_gradient():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    one, other = (exchange(w, asked(w), w.rows, 12) for w in (bench(), bench(device="cuda")))
    assert gap(matrices(other.gradient), matrices(one.gradient)) < 1e-4


def test_dropout_has_a_mask_of_its_own_in_each_pass_and_repeats():
    where = bench()
    order = asked(where)
    one, same, other = (exchange(where, order, where.rows, 8, dropout=0.5, seed=seed) for seed in (1, 1, 2))
    assert gap(matrices(one.gradient), matrices(same.gradient)) == 0
    assert gap(matrices(one.gradient), matrices(other.gradient)) > 0.1


def test_checkpointing_gives_the_same_gradient():
    where = bench()
    order = asked(where)
    plain, saved = (exchange(where, order, where.rows, 8, checkpointing=wanted) for wanted in (False, True))
    assert gap(matrices(saved.gradient), matrices(plain.gradient)) < 1e-6


def test_the_steps_that_are_done_are_reported_once_each():
    where, seen = bench(), []
    training = Training((1e-2,) * 3, batch=2, draw=5)
    watch = lambda step, _: seen.append(step)  # noqa: E731
    Passes(where.base, where.lora, asked(where), "clinic", where.rows, training, 1.0, watch).halves()
    assert seen == [0, 1, 2]


def test_its_numbers_are_those_of_its_rows():
    where = bench("llama", "causal-lm", random_rows("causal-lm", [5, 9, 7, 6] * 3, (1, 4)))
    found = exchange(where, asked(where), where.rows, 12)
    assert (found.examples, found.tokens) == (12, sum(int((r.targets[1:] >= 0).sum()) for r in where.rows.rows))
    assert 3 < found.loss < 12
