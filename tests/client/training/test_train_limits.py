"""Limits of training: it must not touch the base, keep state for it, or make a matrix of its size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from client.data.batches import Batch
from tests.helpers.client.training import ALL_TASKS, PLAIN, bench, largest_gap, random_rows


@pytest.mark.parametrize(("kind", "task"), ALL_TASKS)
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


@pytest.mark.parametrize(("kind", "task"), ALL_TASKS)
def test_no_matrix_of_a_target_is_ever_made(kind, task):
    """Rows of 5 and 7 tokens, three a batch, give no activation the shape of a weight."""
    where = bench(kind, task, random_rows(task, [5, 7] * 3))
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
@pytest.mark.parametrize(("kind", "task"), ALL_TASKS)
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
