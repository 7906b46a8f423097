import hashlib
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from client.model.lora import Lora
from client.model.targets import find_targets
from common.huggingface.new_head import STD, HeadModule, initial_weight
from simulations.tiny_base import tiny_base
from tests.helpers.common.models import LABELS, adapted_logits, load, logits, random_adapter

DENSE = HeadModule("classifier.dense", last=False, bias=True)


def test_the_last_projection_is_zero():
    weight = initial_weight(HeadModule("classifier.out_proj", last=True, bias=True), (3, 5))
    assert (weight.shape, weight.dtype) == ((3, 5), np.float32)
    assert not weight.any()


def test_another_is_drawn_from_its_name_alone():
    weight = initial_weight(DENSE, (300, 200))
    np.random.default_rng(0).standard_normal(9)
    np.testing.assert_array_equal(weight, initial_weight(HeadModule(DENSE.name, last=False, bias=False), (300, 200)))
    assert weight.std() == pytest.approx(STD, rel=0.02)
    assert weight.mean() == pytest.approx(0, abs=STD / 100)
    other = initial_weight(HeadModule("pooler.dense", last=False, bias=True), (300, 200))
    assert abs(np.corrcoef(weight.ravel(), other.ravel())[0, 1]) < 0.02


def test_the_draw_is_the_same_on_every_machine():
    """A party that draws other bits would train another head; a change here parts new runs from old ones."""
    digest = hashlib.sha256(initial_weight(DENSE, (32, 32)).astype("<f4").tobytes()).hexdigest()
    assert digest == "d4181b103f57bd6703075a0b2a759f56c6d7916a4eb58aab663de851f58483f2"


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta", "gpt2", "llama"])
def test_the_first_loss_is_that_of_a_guess(kind):
    base = load(kind)
    assert [module.last for module in base.head] == [False] * (len(base.head) - 1) + [True]
    first = logits(base.model)
    assert cross_entropy(first, torch.tensor([0, 1, 2, 0])).item() == pytest.approx(math.log(len(LABELS)), abs=1e-6)


@pytest.mark.parametrize("kind", ["roberta", "deberta"])
def test_every_party_has_the_same_head(kind, tmp_path):
    parties = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        folder = shutil.copytree(tiny_base(kind), tmp_path / str(seed))
        parties.append(load(kind, folder=folder))
    one, other = (party.model.state_dict() for party in parties)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert any(one[f"{module.name}.weight"].any() for module in parties[0].head)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_the_head_learns_from_zero(kind):
    """The last projection is zero, so its own factors must be able to move the logits alone."""
    base = load(kind)
    lora = Lora(base.model, find_targets(base, "query-value"))
    head = {base.head[-1].name: lora.shapes[base.head[-1].name]}
    moved = adapted_logits(lora, random_adapter(head, (2,)))
    assert not torch.allclose(moved, logits(base.model), atol=1e-2)
