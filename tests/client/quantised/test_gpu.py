"""Bases in 4 and 8 bits on CUDA: the same weights as on a CPU, unchanged by a run; gradients by their numbers."""

import pytest
import torch

from client.model.quantised import as_numbers, kind_of, quantised_modules
from tests.client.quantised.test_training import bench
from tests.helpers.client.bases import loaded
from tests.helpers.client.quantised import KINDS, weights_hash, wide_base

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_holds_the_weights_of_a_cpu_and_trains_on_them(kind):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    there, here = (loaded(wide_base("llama"), "causal-lm", kind, device) for device in ("cuda", "cpu"))
    assert kind_of(there.model) == kind
    assert quantised_modules(there.model).keys() == quantised_modules(here.model).keys()
    for name, layer in quantised_modules(here.model).items():
        other = as_numbers(quantised_modules(there.model)[name]).weight.cpu()
        torch.testing.assert_close(other, as_numbers(layer).weight, rtol=1e-2, atol=1e-3)
    where, before = bench(there, "causal-lm"), weights_hash(there.model)
    updates = [where.train(where.start(seed=seed)) for seed in (0, 1)]
    assert weights_hash(there.model) == before
    assert updates[0].loss != updates[1].loss  # control: it computes
    assert all(torch.isfinite(torch.tensor(update.loss)) for update in updates)
