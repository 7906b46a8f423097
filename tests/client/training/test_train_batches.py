"""Training does not depend on how a batch is cut up, and masks are keyed (client/training/train.py)."""

from dataclasses import replace

import pytest
import torch

from common.protocol.assignment import Training
from tests.helpers.client.dense import dense_update
from tests.helpers.client.training import ALL_TASKS, PLAIN, TASKS, bench, gradients, largest_gap, random_rows, same_bits


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_accumulated_batches_are_one_larger_batch(kind, task):
    where = bench(kind, task, random_rows(task, [7] * 8, given=(1, 2, 6, 5)))
    start, slow = where.start(), replace(PLAIN, learning_rates=(1e-3,) * 3)
    whole = where.train(start, replace(slow, batch=8))
    parts = where.train(start, replace(slow, batch=4, accumulate=2))
    assert largest_gap(parts.adapter, whole.adapter) < 1e-6
    assert parts.loss == pytest.approx(whole.loss, abs=1e-6)
    assert (parts.examples, parts.tokens) == (whole.examples, whole.tokens)
    assert largest_gap(parts.adapter, where.train(start, replace(slow, batch=4)).adapter) > 1e-4  # control


def test_a_token_counts_alike_in_whichever_batch_it_is():
    """A mean of the batches' means would give the tokens of a batch with few of them more weight."""
    where = bench("llama", "causal-lm", random_rows("causal-lm", [7, 7, 16, 16], given=(6, 6, 1, 1)))
    start, training = where.start(), replace(PLAIN, batch=2, accumulate=2)
    update = where.train(start, training).adapter
    assert largest_gap(update, dense_update(where, start, training)) < 1e-6
    assert largest_gap(update, dense_update(where, start, training, mean_of_means=True)) > 1e-4


def _norms(clip):
    where = bench()
    with gradients() as steps:
        where.train(where.start(), replace(PLAIN, clip=clip))
    return [torch.cat([gradient.flatten() for gradient in step]).norm().item() for step in steps]


def test_the_gradient_is_clipped_to_its_largest_norm():
    free = _norms(0.0)
    assert min(free) > 0.2
    assert _norms(0.1) == pytest.approx([0.1] * 3, rel=1e-4)
    assert _norms(1e6) == free


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("kind", "task"), ALL_TASKS)
def test_checkpointing_gives_the_same_update_for_another_pass(kind, task, dropout):
    where = bench(kind, task)
    passes = []
    inside = [name for name in where.lora.shapes if ".0." in name][-1]
    where.base.model.get_submodule(inside).register_forward_hook(lambda *_: passes.append(1))
    start, training = where.start(frozen=2), replace(PLAIN, dropout=dropout)
    plain, once = where.train(start, training), len(passes)
    again = where.train(start, replace(training, checkpointing=True))
    assert largest_gap(again.adapter, plain.adapter) < 1e-6
    assert (once, len(passes)) == (3, 3 + 6)
    assert not where.base.model.training
    where.train(start, training)
    assert len(passes) == 3 + 6 + 3  # switched off again


ONE_ROW = random_rows("classification", [9])
DROPPED = replace(PLAIN, dropout=0.5)


@pytest.mark.parametrize(
    ("training", "name"),
    [(DROPPED, "hospital"), (replace(DROPPED, seed=1), "clinic"), (replace(DROPPED, round=2), "clinic")],
    ids=["name", "seed", "round"],
)
def test_dropout_is_keyed_by_name_seed_and_round(training, name):
    """One row, so that only the masks can differ."""
    where = bench(rows=ONE_ROW)
    start = where.start()
    update = where.train(start, DROPPED).adapter
    torch.manual_seed(5)
    assert same_bits(where.train(start, DROPPED).adapter, update)
    assert largest_gap(where.train(start, training, name).adapter, update) > 1e-4
    undropped = where.train(start, PLAIN).adapter
    assert same_bits(where.train(start, replace(training, dropout=0.0), name).adapter, undropped)  # control
    assert largest_gap(undropped, update) > 1e-4


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_another_in_every_step_and_part_of_a_step(dropout):
    where = bench(rows=ONE_ROW)
    still = Training((0.0, 0.0), batch=1, clip=0.0, dropout=dropout)
    with gradients() as steps:
        where.train(where.start(), still)
        where.train(where.start(), replace(still, learning_rates=(0.0,), accumulate=2))
    first, second, both = (torch.cat([gradient.flatten() for gradient in step]) for step in steps)
    assert torch.allclose(first, second, rtol=1e-3, atol=1e-6) == (dropout == 0)
    assert torch.allclose(first, both, rtol=1e-3, atol=1e-6) == (dropout == 0)


def test_training_leaves_the_global_random_stream_alone():
    where = bench()
    before = torch.random.get_rng_state()
    where.train(where.start(), DROPPED)
    assert torch.equal(before, torch.random.get_rng_state())
