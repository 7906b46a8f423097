"""Models whose layers are not all alike: served in one batch, or refused before the first request."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from client.model.adaptable import unfit_modules
from client.model.base_model import load_base
from client.model.lora import adaptable_shapes, frozen_lane
from client.serving.cached_rows import LaneModel
from client.serving.decoder import Decoder
from client.serving.limits import Limits
from common.adapters.adapter import Adapter
from common.errors import ModelError
from simulations.architectures.configs import settings_of
from simulations.tiny_base import tiny_base
from tests.client.serving.test_batches import alone
from tests.helpers.client.serving import random_adapter


@pytest.fixture
def base_of(tmp_path):
    def make(kind):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings_of(kind))).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(tiny_base("llama")).save_pretrained(tmp_path)
        return load_base(str(tmp_path), "causal-lm", (), "float32", "cpu")

    return make


@pytest.mark.parametrize("kind", ["llama4_text", "phimoe", "opt", "gemma2"])
def test_modules_that_cannot_be_adapted_are_left_as_they_are(base_of, kind):
    """Routers that return a tuple; positions that are looked up by a mask; windows."""
    base = base_of(kind)
    unfit = unfit_modules(base.model)
    whole = random_adapter(base, "", 4, 0)
    adapters = [Adapter({name: f for name, f in whole.items() if name not in unfit}), Adapter({})]
    assert {*adapters[0]} < {*adaptable_shapes(base.model)} or kind == "gemma2"
    model, texts = LaneModel(base), [[*range(20, 100)], [5, 6, 7]]
    rows, _ = model.begin(texts, [frozen_lane(each) for each in adapters])
    _, logits = model.extend(rows, [8, 9])
    found = zip(adapters, texts, (8, 9), strict=True)
    expected = torch.cat([alone(base, adapter, [*text, last]) for adapter, text, last in found])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert (logits[0] - alone(base, Adapter({}), [*texts[0], 8])).abs().max() > 1e-2  # control


@pytest.mark.parametrize("kind", ["lfm2", "minimax", "mamba"])
def test_a_model_that_keeps_more_than_keys_and_values_is_refused_before_a_request(base_of, kind):
    with pytest.raises(ModelError, match=r"serve (and evaluate --metrics need|needs) a model of attention layers"):
        Decoder(base_of(kind), Limits())
