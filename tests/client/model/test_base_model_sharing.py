"""Many users of one base in one process (client/model/base_model.py)."""

import copy
import gc

import pytest
import torch

from client.model.lora import Lora
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import loaded
from tests.helpers.common.models import adapted_logits, logits, random_adapter


def test_a_base_is_loaded_once():
    one = loaded(tiny_base("bert"))
    assert loaded(str(tiny_base("bert")) + "/.") is one
    assert loaded(tiny_base("bert"), dtype="bfloat16") is not one


def _storages(model):
    return {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}


def _live_bytes():
    """Bytes of all tensors of this process, each storage once."""
    gc.collect()
    storages = [o.untyped_storage() for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_skeletons_share_every_tensor_and_hold_no_copy(kind):
    base = loaded(tiny_base(kind))
    size = sum(p.nbytes for p in base.model.parameters())
    before = _live_bytes()
    skeletons = [base.skeleton() for _ in range(4)]
    assert _live_bytes() <= before
    for skeleton in skeletons:
        assert _storages(skeleton.model) == _storages(base.model)
        assert not set(skeleton.model.modules()) & set(base.model.modules())
    plain = copy.deepcopy(base.model)  # control
    assert _live_bytes() >= before + size
    assert not _storages(plain) & _storages(base.model)


def test_adapters_on_one_skeleton_are_seen_by_no_other():
    base = loaded(tiny_base("llama"), "causal-lm")
    one, other = base.skeleton(), base.skeleton()
    plain = logits(base.model)
    lora = Lora(one.model, ["model.layers.0.self_attn.q_proj"])
    adapter = random_adapter(lora.shapes, (2,))
    adapted = adapted_logits(lora, adapter)
    lora.lanes = []
    assert not torch.allclose(adapted, plain, atol=1e-2)
    assert torch.equal(logits(other.model), plain)
    assert torch.equal(logits(base.model), plain)
