"""What training must not do: touch the base, keep state for it, or depend on how a batch is cut up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from client.data import Batch
from common.assignment import Training
from tests.client.dense import dense_update
from tests.client.training import PLAIN, TASKS, bench, gradients, largest_gap, random_rows, same_bits

KINDS = [*TASKS, ("roberta", "classification"), ("deberta", "classification")]


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_the_base_keeps_its_bits_and_gets_no_gradient(kind, task):
    where = bench(kind, task)
    tensors = [*where.base.model.parameters(), *where.base.model.buffers()]
    before = [tensor.clone() for tensor in tensors]
    where.train(where.start(frozen=2), replace(PLAIN, accumulate=2, dropout=0.1))
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))
    assert not any(tensor.requires_grad or tensor.grad is not None for tensor in tensors)


@pytest.mark.parametrize(("trains", "sides"), [("both", "ab"), ("b", "b"), ("a", "a")])
def test_the_optimizer_holds_two_moments_of_what_is_trained(trains, sides):
    where = bench()
    start = where.start(rank=3, trains=trains)
    optimizers = set()
    handle = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: optimizers.add(optimizer))
    where.train(start)
    handle.remove()
    (optimizer,) = optimizers
    trained = sum(array.nbytes for key, array in start.start.arrays().items() if key[-1] in sides)
    moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    assert sum(t.nbytes for t in moments) == 2 * trained
    assert sum(p.nbytes for group in optimizer.param_groups for p in group["params"]) == trained


class _Made(TorchDispatchMode):
    """Shapes of all tensors that operations make, in the backward pass and the optimizer too; views are left out."""

    def __init__(self, known):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.shapes |= {tuple(t.shape) for t in made if t.untyped_storage().data_ptr() not in self.known}
        return out


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_no_matrix_of_a_target_is_ever_made(kind, task):
    """Rows of 5 and 7 tokens, three a batch, give no activation the shape of a weight."""
    where = bench(kind, task, random_rows(task, [5, 7] * 3), own_tensors=True)
    parameters = list(where.base.model.parameters())
    dense = {shape for d, k in where.lora.shapes.values() for shape in ((d, k), (k, d)) if min(d, k) > 3}
    training = replace(PLAIN, batch=3)
    with _Made(parameters) as made:
        where.train(where.start(frozen=2), training)
    assert not made.shapes & dense
    where.base.model.requires_grad_(True)  # control: a base that is not frozen has gradients of that shape
    with _Made(parameters) as made:
        where.train(where.start(frozen=2), training)
    assert made.shapes & dense


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
@pytest.mark.parametrize(("kind", "task"), KINDS)
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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_size_base_trains_factors_in_float32(dtype):
    where, exact = (bench("llama", "causal-lm", dtype=each) for each in (dtype, "float32"))
    seen = []
    module = where.base.model.get_submodule("model.layers.1.mlp.up_proj")
    module.register_forward_hook(lambda *call: seen.append((torch.is_autocast_enabled("cpu"), call[2].dtype)))
    start = where.start(frozen=2)
    update, expected = where.train(start), exact.train(start)
    assert seen == [(True, getattr(torch, dtype))] * 3
    assert {array.dtype for array in update.adapter.arrays().values()} == {np.dtype("f4")}
    assert all(np.isfinite(array).all() for array in update.adapter.arrays().values())
    assert update.loss == pytest.approx(expected.loss, rel=0.02)
    assert largest_gap(start.start, update.adapter) > 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_a_gpu_gives_the_update_of_a_cpu(kind, task, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    pinned, move = [], Batch.to
    monkeypatch.setattr(
        Batch, "to", lambda batch, device: pinned.append(batch.input_ids.is_pinned()) or move(batch, device)
    )
    host, device = bench(kind, task), bench(kind, task, device="cuda")
    start = host.start(frozen=2)
    expected, update = host.train(start), device.train(start)
    assert pinned == [False] * 3 + [True] * 3
    assert update.loss == pytest.approx(expected.loss, rel=1e-3)
    for key, array in update.adapter.arrays().items():
        other = expected.adapter.arrays()[key]
        assert isinstance(array, np.ndarray)
        assert np.linalg.norm(array - other) < 1e-3 * np.linalg.norm(other)
