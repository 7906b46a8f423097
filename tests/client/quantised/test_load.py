"""Bases in 4 and 8 bits (client/model/quantised_base.py): what is quantised, what is not, and what is refused."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForMaskedLM

from client.checking.base_facts import base_facts
from client.checking.checked import check_node_file
from client.model import quantised_library
from client.model.lora import adaptable_shapes
from client.model.precision import stored_dtype
from client.model.quantised import as_numbers, count_numbers, held_bytes, kind_of, quantised_modules, settle
from client.model.quantised_base import Precision, find_precision, finish
from client.model.targets import find_targets
from client.questions.module_energies import base_parameters
from common.errors import ModelError
from common.huggingface.fingerprint import fingerprint
from common.huggingface.new_head import initial_weight
from simulations.architectures.trial import write_base
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded
from tests.helpers.client.nodes import write_node
from tests.helpers.client.own_heads import with_own_head
from tests.helpers.client.quantised import KINDS, TASKS, packs_weights, transformers_load, weights_hash, wide_base
from tests.helpers.common.models import LABELS
from tests.helpers.end_to_end.command import ROOT, TINY, call, refusal, settings

WHOLE = {"llama": {"lm_head"}, "gpt2": {"lm_head"}, "bert": {"classifier"}}
"""By base: the linear layers that stay in floating point."""


def held(base, kind):
    return loaded(wide_base(base), TASKS[base], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", TASKS)
def test_linear_layers_are_quantised_but_for_head_and_output(base, kind):
    quantised, plain = held(base, kind).model, held(base, "float32").model
    assert kind_of(quantised) == kind
    assert kind_of(plain) is None  # control
    assert {name for name, each in quantised.named_modules() if type(each) is nn.Linear} == WHOLE[base]
    assert adaptable_shapes(quantised) == adaptable_shapes(plain)
    assert count_numbers(quantised)[0] == count_numbers(plain)[0] == sum(p.numel() for p in plain.parameters())
    assert base_parameters(held(base, kind)) == base_parameters(held(base, "float32"))
    assert held_bytes(quantised) < held_bytes(plain) / 2


@pytest.mark.parametrize(("kind", "error"), [("nf4", 0.1), ("int8", 0.01)])
@pytest.mark.parametrize("base", TASKS)
def test_the_weights_are_those_of_the_checkpoint_to_the_bits_that_are_kept(base, kind, error):
    quantised, plain = held(base, kind).model, held(base, "float32").model
    for name, layer in quantised_modules(quantised).items():
        numbers, weight = as_numbers(layer), plain.get_submodule(name).weight
        assert type(numbers) is type(plain.get_submodule(name))
        assert 0 < (numbers.weight - weight).norm() < error * weight.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_of_any_dtype_has_the_same_fingerprint_of_its_base(kind):
    shapes = [adaptable_shapes(held("llama", dtype).model) for dtype in (kind, "bfloat16", "float32")]
    folder = wide_base("llama")
    assert len({fingerprint(folder, each, "causal-lm", (), 64) for each in shapes}) == 1
    targets = [find_targets(held("llama", dtype), "all-linear") for dtype in (kind, "float32")]
    assert targets[0] == targets[1]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_a_checkpoint_lacks_are_new_and_not_quantised(tmp_path, kind):
    """BERT's pooler is in no checkpoint of a masked language model."""
    BertForMaskedLM.from_pretrained(wide_base("bert")).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(wide_base("bert")).save_pretrained(tmp_path / "base")
    base = loaded(tmp_path / "base", dtype=kind)
    assert [module.name for module in base.head] == ["bert.pooler.dense", "classifier"]
    for module in base.head:
        weight = base.model.get_submodule(module.name).weight
        expected = torch.from_numpy(initial_weight(module, tuple(weight.shape))).to(weight.dtype)
        assert torch.equal(weight, expected)
    assert kind_of(base.model) == kind  # control


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_the_checkpoints_own_is_not_quantised(tmp_path, kind):
    folder = with_own_head(tmp_path / "base", LABELS, "roberta")
    base, plain = loaded(folder, dtype=kind), loaded(folder)
    assert not base.head
    for name in ("classifier.dense", "classifier.out_proj"):
        one, other = (each.model.get_submodule(name).weight for each in (base, plain))
        assert torch.equal(one, other.to(one.dtype))


def test_experts_in_one_tensor_stay_as_they_are_which_is_said(tmp_path, caplog):
    folder = write_base("mixtral", "causal-lm", tmp_path / "base", hidden_size=64)
    with caplog.at_level(logging.WARNING):
        base = loaded(folder, "causal-lm", "nf4")
    assert "of the numbers of" in caplog.text
    assert "experts that lie in one tensor" in caplog.text
    experts = [p for name, p in base.model.named_parameters() if p.ndim == 3]
    assert experts
    assert all(p.is_floating_point() for p in experts)


def test_a_model_without_a_layer_to_quantise_is_refused():
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base("bert"))
    with pytest.raises(ModelError, match=r'has no linear layer that bitsandbytes quantises; set dtype = "auto"'):
        finish(tiny_base("bert"), model, Precision(torch.float32, "nf4"), "cpu", [])


@pytest.mark.parametrize("absent", ["bitsandbytes", "accelerate"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_the_extra_the_key_its_value_and_the_remedy_are_named(monkeypatch, tmp_path, kind, absent):
    real = quantised_library.find_spec
    monkeypatch.setattr(quantised_library, "find_spec", lambda name: None if name == absent else real(name))
    ended = call("simulate", TINY, "--out", tmp_path, *settings(f"base.dtype={kind}"))
    told = " ".join(refusal(ended).split())
    assert f'dtype = "{kind}" (in a recipe: [base] dtype) needs {absent}, which is not installed' in told
    assert 'pip install "fedlora[quantised]"' in told


def test_a_process_that_asks_for_no_bits_does_not_import_the_library():
    code = (
        "import sys; from client.model.base_model import load_base; from simulations.tiny_base import tiny_base;"
        "load_base(str(tiny_base('llama')), 'causal-lm', (), sys.argv[1], 'cpu'); print('bitsandbytes' in sys.modules)"
    )
    found = [
        subprocess.run([sys.executable, "-c", code, dtype], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for dtype in ("float32", "nf4")
    ]
    assert found == ["False\n", "True\n"]


def test_no_kernel_is_fetched_from_a_hub(tmp_path):
    """Bitsandbytes asks the package `kernels`, if that is installed, for code."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*_, **__):\n    print('asked')\n    raise OSError\n")
    ours = (
        "from client.model.base_model import load_base; from simulations.tiny_base import tiny_base;"
        "load_base(str(tiny_base('llama')), 'causal-lm', (), 'nf4', 'cpu')"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    told = {
        code: subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
        ).stdout
        for code in (ours, "import bitsandbytes")
    }
    assert "asked" not in told[ours]
    if packs_weights():
        assert "asked" in told["import bitsandbytes"]  # control


@pytest.fixture(params=[*KINDS, "fp4"])
def stored(request, tmp_path):
    """Return the folder of a checkpoint that is quantised, and how."""
    model = transformers_load(wide_base("llama"), "causal-lm", request.param, ["lm_head"])
    model.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(wide_base("llama")).save_pretrained(tmp_path / "base")
    settle(model, torch.float32)
    return tmp_path / "base", request.param, weights_hash(model)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_checkpoint_that_bitsandbytes_has_quantised_is_held_as_it_is_stored(stored, dtype):
    folder, kind, digest = stored
    base = loaded(folder, "causal-lm", dtype)
    assert kind_of(base.model) == kind
    assert weights_hash(base.model) == digest
    if dtype == "float32":
        assert base.model.dtype == torch.float32
    assert stored_dtype(folder) == torch.float32
    assert adaptable_shapes(base.model) == adaptable_shapes(held("llama", "float32").model)


def test_another_kind_than_the_stored_one_is_refused(stored):
    folder, kind, _ = stored
    for asked in KINDS:
        if asked == kind:
            assert find_precision(folder, asked, "cpu").stored  # control
        else:
            with pytest.raises(ModelError, match=rf'dtype = "{asked}" .* is stored in {kind}; set dtype = "auto"'):
                loaded(folder, "causal-lm", asked)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors", "mxfp4"])
@pytest.mark.parametrize("place", ["", "text_config"])
def test_a_checkpoint_quantised_in_another_way_is_refused(tmp_path, method, place):
    stated = {"quantization_config": {"quant_method": method, "bits": 4}}
    folder = copied("llama", tmp_path / "base", **({place: stated} if place else stated))
    for dtype in ("auto", "float32", "nf4"):
        with pytest.raises(ModelError, match=rf"config.json: the checkpoint is quantised by '{method}'.*give the"):
            loaded(folder, "causal-lm", dtype)


def test_a_check_says_how_many_bits_and_how_much_memory(tmp_path):
    said = {}
    for dtype in ("float32", "nf4", "int8"):
        file = write_node(tmp_path / dtype, dtype=dtype, base=str(wide_base("bert")))
        said[dtype] = dict(base_facts(check_node_file(file)))
    assert "float32 (dtype = 'float32'), on cpu" in said["float32"]["dtype"]
    for kind, bits in (("nf4", 4), ("int8", 8)):
        assert said[kind]["dtype"].startswith(f"{kind}, {bits} bits, ")
        assert said[kind]["model"] == said["float32"]["model"]
        assert float(said[kind]["memory"].split()[0]) < float(said["float32"]["memory"].split()[0])
