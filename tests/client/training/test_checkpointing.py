"""Nothing of a base is random in the training mode that checkpointing needs (client/training/checkpointing.py)."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from client.training.checkpointing import checkpoint_activations
from simulations.architectures.trial import write_base
from tests.helpers.client.bases import loaded

ASKED = {"input_ids": torch.arange(7, 27).view(2, 10), "labels": torch.arange(30, 38).view(2, 4)}
PART = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
NOISY = {
    "bart": {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5, "dropout": 0.5},
    "switch_transformers": {"router_jitter_noise": 0.5, "dropout_rate": 0.5},
    "nllb-moe": {"moe_token_dropout": 0.5, "router_jitter_noise": 0.5, "dropout": 0.5},
    "encoder-decoder": {},
}


@torch.no_grad()
def test_routers_of_decoders_are_those_of_evaluation_too(tmp_path):
    base = loaded(write_base("phimoe", "causal-lm", tmp_path / "base"), "causal-lm")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    ids = ASKED["input_ids"]
    expected = plain(ids, use_cache=False).logits
    assert torch.equal(base.model(ids, use_cache=False).logits, expected)
    with checkpoint_activations(base.model, True):
        assert torch.equal(base.model(ids, use_cache=False).logits, expected)
    other = AutoModelForCausalLM.from_pretrained(tmp_path / "base", router_jitter_noise=0.0).eval()
    assert not torch.equal(other(ids, use_cache=False).logits, expected)  # control: the setting shapes routes


@pytest.fixture(params=NOISY)
def folder(request, tmp_path):
    folder = write_base(request.param, "seq2seq", tmp_path / "base", **NOISY[request.param])
    if request.param == "encoder-decoder":
        config = AutoConfig.from_pretrained(folder)
        for part in (config.encoder, config.decoder):
            part.update(PART)
        config.save_pretrained(folder)
    return folder


@torch.no_grad()
def losses(model, count=4):
    return {model(**ASKED, use_cache=False).loss.item() for _ in range(count)}


def test_a_base_computes_in_training_mode_as_transformers_does_in_evaluation(folder):
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    (expected,) = losses(plain)
    base = loaded(folder, "seq2seq")
    assert losses(base.model) == {expected}
    with checkpoint_activations(base.model, True):
        assert losses(base.model) == {expected}
    assert losses(base.model) == {expected}
    assert len(losses(plain.train())) > 1  # control
