"""Adapters on images and on speech: the same code, with a tiny ViT and a tiny Whisper of random weights."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import ViTConfig, ViTForImageClassification, WhisperConfig, WhisperForConditionalGeneration

from client.model.lora import Branch, Lane, Lora, frozen_lane
from client.model.targets import QUERY_VALUE
from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.lowrank import total_norm
from tests.helpers.common.models import random_adapter

_DRAWS = torch.Generator().manual_seed(0)


def vision():
    """Return a classifier of images, four of them, and their classes."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3))
    images = {"pixel_values": torch.randn(4, 3, 16, 16, generator=_DRAWS)}
    return model, images, torch.tensor([0, 1, 2, 1])


def speech():
    """Return a model that transcribes, the features of four recordings, and their tokens."""
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 48))
    }
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, vocab_size=60, num_mel_bins=8, max_source_positions=16, max_target_positions=12, **sides, **special
    )
    tokens = torch.randint(2, 60, (4, 6), generator=_DRAWS)
    recordings = {"input_features": torch.randn(4, 8, 32, generator=_DRAWS), "decoder_input_ids": tokens}
    return WhisperForConditionalGeneration(config), recordings, tokens


MODELS = pytest.mark.parametrize("make", [vision, speech])


def query_and_value(model):
    return [name for name, _ in model.named_modules() if name.rpartition(".")[2] in QUERY_VALUE]


def loss_of(model, inputs, wanted):
    logits = model(**inputs).logits
    return F.cross_entropy(logits.flatten(0, -2), wanted.flatten())


def train(model, lora, inputs, wanted, steps=60):
    start = random_adapter(lora.shapes, (2,))
    pairs = {name: (torch.tensor(f.a, requires_grad=True), torch.zeros(f.shape[0], 2)) for name, f in start.items()}
    branches = {name: Branch(a, b.requires_grad_()) for name, (a, b) in pairs.items()}
    lora.lanes = [Lane(branches)]
    optimizer = torch.optim.AdamW([each for pair in pairs.values() for each in pair], lr=3e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, inputs, wanted).backward()
        optimizer.step()
    lora.lanes = ()
    return Adapter({n: Factors(b.a.detach().numpy(), b.b.detach().numpy()) for n, b in branches.items()})


@MODELS
def test_adapters_learn_on_the_frozen_model(make):
    model, inputs, wanted = make()
    model = model.eval()
    held = copy.deepcopy(model.state_dict())
    lora = Lora(model, query_and_value(model))
    before = loss_of(model, inputs, wanted).item()
    adapter = train(model, lora, inputs, wanted)
    lora.lanes = [frozen_lane(adapter)]
    assert loss_of(model, inputs, wanted).item() < 0.97 * before
    assert total_norm(adapter.values()) > 0
    assert all(torch.equal(each, held[name]) for name, each in model.state_dict().items())


@MODELS
def test_merged_sent_and_in_peft_it_gives_the_same_logits(make):
    model, inputs, wanted = make()
    model = model.eval()
    peer = copy.deepcopy(model)
    lora = Lora(model, query_and_value(model))
    adapter = decode_adapter(encode_adapter(train(model, lora, inputs, wanted).astype("f4")))
    with torch.no_grad():
        plain = model(**inputs).logits
        lora.lanes = [frozen_lane(adapter)]
        expected = model(**inputs).logits
        lora.lanes = ()
        lora.merge(adapter)
        merged = model(**inputs).logits
        lora.unmerge()
        assert torch.equal(model(**inputs).logits, plain)
        found = _in_peft(peer, adapter)(**inputs).logits
    assert not torch.allclose(plain, expected, atol=1e-3)
    torch.testing.assert_close(merged, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def _in_peft(model, adapter):
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=list(adapter))).base_model.model
    for name, factors in adapter.items():
        layer = model.get_submodule(name)
        layer.lora_A["default"].weight.data = torch.tensor(np.array(factors.a))
        layer.lora_B["default"].weight.data = torch.tensor(np.array(factors.b))
    return model.eval()


@MODELS
def test_several_tasks_share_a_batch(make):
    model, inputs, _ = make()
    model = model.eval()
    lora = Lora(model, query_and_value(model))
    adapters = [random_adapter(lora.shapes, (rank,), rank) for rank in (1, 2, 3, 5)]
    with torch.no_grad():
        lora.lanes = [frozen_lane(each) for each in adapters]
        together = model(**inputs).logits
        for row, adapter in enumerate(adapters):
            lora.lanes = [frozen_lane(adapter)]
            alone = model(**{name: values[row : row + 1] for name, values in inputs.items()}).logits
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)
