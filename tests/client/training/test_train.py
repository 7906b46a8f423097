from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from client.objectives.examples import batches
from client.training.train import train
from common.adapters.adapter import Adapter
from common.protocol.assignment import Training
from tests.helpers.client.dense import dense_update
from tests.helpers.client.training import PLAIN, TASKS, bench, gradients, largest_gap, random_rows, same_bits
from tests.helpers.common.models import load

RATES = (1e-3, 3e-3, 2e-3, 1e-3, 5e-4)


@pytest.mark.parametrize(("kind", "task"), TASKS)
@pytest.mark.parametrize("rates", [RATES[:1], RATES], ids=["one step", "five steps"])
def test_an_update_is_that_of_dense_matrices(kind, task, rates):
    where = bench(kind, task)
    start = where.start(rank=3, scaling=0.5, frozen=4)
    training = Training(rates, batch=4, clip=0.5, seed=3, round=2)
    expected = dense_update(where, start, training)
    assert largest_gap(where.train(start, training).adapter, expected) < 1e-6
    assert largest_gap(start.start, expected) > rates[0] / 2  # control: there is something to find


def _peft_factors(where, start, training):
    """Return (A, s B) by module after the same steps in PEFT, with the loss that Transformers computes."""
    names, rank, s = list(start.start), start.start.rank, start.scaling
    config = LoraConfig(r=rank, lora_alpha=s * rank, target_modules=names)
    model = get_peft_model(load(where.base.model.config.model_type, where.base.task).model, config)
    layers = {name: model.base_model.model.get_submodule(name) for name in names}
    sides = {name: (layer.lora_A["default"].weight, layer.lora_B["default"].weight) for name, layer in layers.items()}
    for name, (a, b) in sides.items():
        a.data, b.data = torch.tensor(start.start[name].a), torch.tensor(start.start[name].b / s)
    leaves = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, weight_decay=0.0)
    stream = batches(where.rows, training.batch, len(training.learning_rates), (training.seed, "clinic", 1))
    for rate, batch in zip(training.learning_rates, stream, strict=True):
        out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets)
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(leaves, training.clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return {name: (a.detach().numpy(), s * b.detach().numpy()) for name, (a, b) in sides.items()}


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_an_update_is_that_of_peft(kind, task):
    where = bench(kind, task)
    start = where.start(rank=3, scaling=2.0)
    training = Training(RATES, batch=4)
    ours, theirs = where.train(start, training).adapter, _peft_factors(where, start, training)
    assert ours.keys() == theirs.keys()
    for name, (a, b) in theirs.items():
        for mine, other, before in ((ours[name].a, a, start.start[name].a), (ours[name].b, b, start.start[name].b)):
            assert np.linalg.norm(mine - other) < 1e-5 * np.linalg.norm(other)
            assert np.linalg.norm(before - other) > 1e-3 * np.linalg.norm(other)  # control


@pytest.mark.parametrize("task", ["classification", "causal-lm"])
def test_several_assignments_in_one_call_are_as_many_calls(task):
    where = bench("gpt2", task)
    starts = [where.start(rank, seed=rank, trains=trains) for rank, trains in ((1, "both"), (3, "b"), (16, "both"))]
    names = ["a", "b", "c"]
    rows = [random_rows(task, lengths, seed=len(lengths)) for lengths in ([5] * 4, [9, 3, 4], [6] * 9)]
    together = train(where.base, where.lora, starts, names, rows, PLAIN)
    apart = [where.train(*each) for each in zip(starts, [PLAIN] * 3, names, rows, strict=True)]
    for one, other in zip(together, apart, strict=True):
        assert same_bits(one.adapter, other.adapter)
        assert (one.examples, one.tokens, one.loss) == (other.examples, other.tokens, other.loss)


def test_each_assignment_needs_its_name_and_data():
    where = bench()
    with pytest.raises(ValueError, match="zip"):
        train(where.base, where.lora, [where.start()], ["a", "b"], [where.rows], PLAIN)


@pytest.mark.parametrize(("trains", "moved"), [("both", (True, True)), ("b", (False, True)), ("a", (True, False))])
def test_only_the_factors_that_are_asked_for_move(trains, moved):
    where = bench()
    start = where.start(trains=trains)
    after = where.train(start).adapter
    for name, before in start.start.items():
        assert (not np.array_equal(after[name].a, before.a), not np.array_equal(after[name].b, before.b)) == moved


@pytest.mark.parametrize("scaling", [1.0, 4.0, 3.0])
def test_the_scale_is_folded_into_b_once(scaling):
    where = bench()
    start = where.start(scaling=scaling)
    still = where.train(start, replace(PLAIN, learning_rates=(0.0,))).adapter
    assert largest_gap(still, start.start) <= (0 if scaling != 3 else 2e-7)
    moved = where.train(start, replace(PLAIN, learning_rates=(0.5,))).adapter
    for name, before in start.start.items():  # Adam's first step is the learning rate, wherever there is a gradient.
        assert np.abs(moved[name].a - before.a).max() == pytest.approx(0.5, rel=1e-3)
        assert np.abs(moved[name].b - before.b).max() == pytest.approx(0.5 * scaling, rel=1e-3)


def test_the_frozen_branch_is_seen_and_not_trained():
    where = bench()
    alone, beside = where.start(), where.start(frozen=3)
    held = {key: array.copy() for key, array in beside.frozen.arrays().items()}
    plain, update = where.train(alone), where.train(beside)
    assert abs(update.loss - plain.loss) > 1e-2
    assert update.adapter.shapes == alone.start.shapes
    assert all(np.array_equal(array, held[key]) for key, array in beside.frozen.arrays().items())


def test_a_frozen_branch_may_lack_modules():
    where = bench()
    whole = where.start(frozen=3)
    first = next(iter(whole.frozen))
    part = replace(whole, frozen=Adapter({first: whole.frozen[first]}))
    expected = dense_update(where, part, PLAIN)
    assert largest_gap(where.train(part).adapter, expected) < 1e-6
    assert largest_gap(where.train(whole).adapter, expected) > 1e-4  # control


def test_a_learning_rate_of_zero_changes_no_bit():
    where = bench()
    start = where.start(frozen=2)
    update = where.train(start, replace(PLAIN, learning_rates=(0.0, 0.0)))
    assert same_bits(update.adapter, start.start)
    assert np.isfinite(update.loss)


def test_after_b_of_zero_only_b_has_a_gradient_at_first():
    where = bench("llama", "causal-lm")
    with gradients() as steps:
        where.train(where.start(b=False))
    first, second = ((step[0::2], step[1::2]) for step in steps[:2])  # of every A, of every B
    assert not any(a.any() for a in first[0])
    assert all(b.any() for b in first[1])
    assert all(a.any() for a in second[0])


def test_data_come_in_an_order_of_name_round_and_seed():
    where = bench(rows=random_rows("classification", [6] * 40))
    start = where.start()
    update = where.train(start).adapter
    assert same_bits(where.train(start).adapter, update)
    for training, name in (
        (PLAIN, "hospital"),
        (replace(PLAIN, round=2), "clinic"),
        (replace(PLAIN, seed=1), "clinic"),
    ):
        assert largest_gap(where.train(start, training, name).adapter, update) > 1e-4


@pytest.mark.parametrize(("kind", "task"), TASKS)
def test_an_update_says_what_it_was_trained_on(kind, task):
    where = bench(kind, task, random_rows(task, [9, 5, 7, 4], given=(1, 3)))
    update = where.train(where.start(), replace(PLAIN, batch=2, accumulate=2))
    supervised = {"classification": 4, "causal-lm": 8 + 2 + 6 + 1, "seq2seq": 5 + 3 + 4 + 3}[task]
    assert (update.examples, update.tokens) == (3 * 4, 3 * supervised)
