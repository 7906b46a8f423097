"""Training, evaluation and serving on a base in 4 or 8 bits, against the same weights in float32."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from client.model.lora import Lora, frozen_lane
from client.model.quantised import held_tensors, quantised_modules, settle
from client.model.targets import find_targets
from client.serving.cached_rows import LaneModel
from client.training.evaluate import evaluate
from common.protocol.assignment import Training
from tests.client.training.test_gradient_exchange import asked, exchange, matrices
from tests.client.training.test_gradient_exchange import gap as relative_gap
from tests.helpers.client.bases import loaded
from tests.helpers.client.quantised import (
    KINDS,
    TASKS,
    dequantised,
    logits_under,
    packs_weights,
    weights_hash,
    wide_base,
)
from tests.helpers.client.training import PLAIN, Bench, largest_gap, random_rows, same_bits
from tests.helpers.common.models import random_adapter
from tests.helpers.simulations.runs import BRIEF, hashes, run_tiny


def bench(base, task):
    own = replace(base, model=base.skeleton().model)
    rows = random_rows(task, [5, 9, 7, 6] * 3)
    return Bench(own, Lora(own.model, find_targets(own, "all-linear")), rows)


@pytest.fixture(params=[(base, kind) for base in TASKS for kind in KINDS], ids="-".join)
def pair(request, float32):
    """Return a bench on a quantised base, one on the same weights in float32, and one on the checkpoint's."""
    name, kind = request.param
    task = TASKS[name]
    base, plain = (loaded(wide_base(name), task, dtype) for dtype in (kind, "float32"))
    return bench(base, task), bench(dequantised(base), task), bench(plain, task)


def test_logits_are_those_of_the_same_weights_in_float32(pair):
    quantised, numbers, plain = pair
    adapter = random_adapter(quantised.lora.shapes, [2, 4])
    ours, expected, whole = (logits_under(each.lora, adapter) for each in pair)
    assert quantised.lora.shapes == numbers.lora.shapes == plain.lora.shapes
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert (whole - ours).abs().max() > 1e-3  # control: bits are lost
    assert (logits_under(quantised.lora) - ours).abs().max() > 1e-2  # control: the adapter counts


@pytest.mark.parametrize("trains", ["both", "b", "a"])
def test_an_update_is_that_of_the_same_weights_in_float32(pair, trains):
    ours, expected, whole = (each.train(each.start(trains=trains, frozen=2)) for each in pair)
    assert largest_gap(ours.adapter, expected.adapter) < 1e-3
    assert abs(ours.loss - expected.loss) < 1e-5
    assert largest_gap(ours.adapter, pair[0].start(trains=trains, frozen=2).start) > 1e-2  # control: it moves
    assert abs(ours.loss - whole.loss) > 1e-6  # control: bits are lost


@pytest.mark.parametrize("trains", ["both", "b"])
def test_gradients_of_an_exchange_are_those_of_the_same_weights_in_float32(pair, trains):
    ours, expected, _ = (
        matrices(exchange(each, asked(each, trains), each.rows, len(each.rows)).gradient) for each in pair
    )
    assert relative_gap(ours, expected) < 1e-4


def test_recomputed_activations_give_the_same_update(pair):
    quantised = pair[0]
    kept = quantised.train(quantised.start())
    again = quantised.train(quantised.start(), replace(PLAIN, checkpointing=True))
    assert largest_gap(kept.adapter, again.adapter) < 1e-5
    assert same_bits(quantised.train(quantised.start()).adapter, kept.adapter)  # the modes are as before


def test_the_weights_are_the_same_before_and_after_everything_that_a_run_does(pair):
    quantised = pair[0]
    base, adapter = quantised.base, random_adapter(quantised.lora.shapes, [2])
    before = weights_hash(base.model)
    first = evaluate(base, quantised.lora, adapter, quantised.rows)
    quantised.train(quantised.start())
    quantised.train(quantised.start(), replace(PLAIN, checkpointing=True))
    exchange(quantised, asked(quantised), quantised.rows, 12)
    assert evaluate(base, quantised.lora, adapter, quantised.rows) == first
    assert weights_hash(base.model) == before
    layer = next(iter(quantised_modules(base.model).values()))
    for tensor in held_tensors(layer):  # control: one byte of codes or scales
        spoilt = tensor.reshape(-1).view(torch.uint8)
        spoilt[0] += 1
        assert weights_hash(base.model) != before
        spoilt[0] -= 1
    assert weights_hash(base.model) == before


def test_as_the_library_leaves_it_a_pass_would_change_4_bit_weights_and_later_ones_have_no_gradients(float32):
    if not packs_weights():
        pytest.skip("the CPU has no units for which bitsandbytes packs weights")
    model = copy.deepcopy(loaded(wide_base("llama"), "causal-lm", "nf4").model)
    before, token = weights_hash(model), torch.tensor([[5]])
    with torch.no_grad():
        model(token)
    assert weights_hash(model) == before
    layer, x = quantised_modules(model)["model.layers.0.mlp.up_proj"], torch.ones(1, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.abs().sum() > 0
    layer.support_avx512bf16_for_cpu, x.grad = True, None
    with torch.no_grad():
        model(token)
    assert weights_hash(model) != before
    with pytest.warns(UserWarning, match="autograd kernel was not registered"):
        layer(x).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_skeletons_share_codes_and_scales(kind):
    base = loaded(wide_base("llama"), "causal-lm", kind)
    skeletons = [base.skeleton().model for _ in range(2)]

    def places(model):
        return [t.data_ptr() for each in quantised_modules(model).values() for t in held_tensors(each)]

    assert places(skeletons[0]) == places(skeletons[1]) == places(base.model)
    assert places(copy.deepcopy(base.model)) != places(base.model)  # control


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_of_several_adapters_has_the_logits_of_one_by_one(kind, float32):
    base = loaded(wide_base("llama"), "causal-lm", kind)
    where = bench(base, "causal-lm")
    adapters = [random_adapter(where.lora.shapes, [rank], seed) for seed, rank in enumerate((1, 3, 8, 2))]
    together = logits_under(where.lora, *adapters)
    for row, adapter in enumerate(adapters):
        torch.testing.assert_close(together[row], logits_under(where.lora, adapter)[row], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], logits_under(where.lora, adapters[1])[0], atol=1e-2)  # control
    model = LaneModel(base)
    texts = [[5, 6, 7], [8, 9, 10, 11, 12], [13], [14, 15]]
    rows, first = model.begin(texts, [frozen_lane(each) for each in adapters])
    _, after = model.extend(rows, [20, 21, 22, 23])
    for row, (text, adapter) in enumerate(zip(texts, adapters, strict=True)):
        alone, one = model.begin([text], [frozen_lane(adapter)])
        torch.testing.assert_close(first[row], one[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after[row], model.extend(alone, [20 + row])[1][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_train_at_the_same_time_end_with_the_bits_of_those_in_turn(kind):
    base = loaded(wide_base("llama"), "causal-lm", kind)

    def one(seed):
        where = bench(base, "causal-lm")
        evaluate(where.base, where.lora, random_adapter(where.lora.shapes, [2]), where.rows)
        return where.train(where.start(seed=seed), Training((1e-2,) * 4, batch=4)).adapter

    with ThreadPoolExecutor(3) as pool:
        together = [*pool.map(one, range(3))]
    assert all(same_bits(one(seed), adapter) for seed, adapter in enumerate(together))


def test_a_simulation_ends_with_the_same_bits_however_many_clients_train_at_once(tmp_path):
    words = (*BRIEF[:-1], "base.dtype=nf4", f"base.path={wide_base('bert')}", "threads=1")
    runs = [run_tiny(tmp_path, *words, f"workers={count}", name=f"run-{count}") for count in (1, 2)]
    assert hashes(runs[0]) == hashes(runs[1])


def test_settling_again_changes_nothing(float32):
    where = bench(loaded(wide_base("llama"), "causal-lm", "int8"), "causal-lm")
    before, expected = weights_hash(where.base.model), logits_under(where.lora)
    settle(where.base.model, torch.float32)
    assert weights_hash(where.base.model) == before
    assert torch.equal(logits_under(where.lora), expected)
