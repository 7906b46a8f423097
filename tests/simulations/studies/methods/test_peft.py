"""Prefix-embedding against PEFT's prompt tuning."""

import copy

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model

from client.data.batches import Batch
from common.settings.recipe import LoraSettings
from simulations.studies.methods.attached import attach
from simulations.studies.methods.prefix import Prefix
from tests.helpers.common.models import load


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_logits_are_those_of_prompt_tuning(kind):
    base = load(kind, "causal-lm")
    ours = attach(Prefix(4), base, LoraSettings(), 3)
    theirs = get_peft_model(
        copy.deepcopy(base.model), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4)
    )
    theirs.prompt_encoder["default"].embedding.weight.data.copy_(ours.own[0])
    ids = torch.randint(7, 512, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        found = ours.model(Batch(ids, mask, ids))
        wanted = theirs(input_ids=ids, attention_mask=mask).logits[:, 4:]
        without = base.model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (found - without).abs().max() > 1e-3  # control
