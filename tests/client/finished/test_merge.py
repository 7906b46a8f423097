"""A run merged into its base (client/finished/merge.py)."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from client.finished.merge import merge_into_base
from client.finished.run import evaluate_run, load_run
from client.model.precision import stored_dtype
from common.errors import ModelError
from tests.client.conftest import RUNS
from tests.helpers.client.nodes import PLACES
from tests.helpers.client.outputs import gap, logits_of, plain_base, run_logits
from tests.helpers.common.models import AUTO_MODEL


def merged(run, out, dtype=torch.float32):
    return merge_into_base(run, load_run(run), out, dtype).largest


TEXT = "a cow by the old barn"
MERGED = [kind for kind in RUNS if kind != "gpt2 words"]


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_folder_gives_the_logits_of_the_run_in_plain_transformers(run_of, tmp_path, kind):
    run = run_of(kind)
    printed = merged(run, tmp_path / "out")
    model = AUTO_MODEL[load_run(run).node.data.task].from_pretrained(tmp_path / "out")
    assert printed < 1e-5
    assert gap(logits_of(model, run), run_logits(run)) < 1e-5
    assert gap(logits_of(plain_base(run), run), run_logits(run)) > 1e-2  # control


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_folder_keeps_the_settings_of_the_base(run_of, tmp_path, kind):
    trained = load_run(run_of(kind))
    merged(run_of(kind), tmp_path / "out")
    before, after = (json.loads((path / "config.json").read_text()) for path in (trained.base.folder, tmp_path / "out"))
    dropout = {key for key in before if "dropout" in key or key.endswith("pdrop")}
    assert dropout
    assert {key: after[key] for key in dropout} == {key: before[key] for key in dropout}
    assert not any(getattr(trained.base.model.config, key) for key in dropout)  # control: in the run it is off
    if trained.node.data.task == "classification":
        assert after["id2label"] == {str(number): label for number, label in enumerate(PLACES)}


def test_a_merged_folder_has_the_tokenizer_of_the_base(run_of, tmp_path):
    merged(run_of("bert"), tmp_path / "out")
    mine, base = (
        AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out", load_run(run_of("bert")).node.base.path)
    )
    assert mine(TEXT)["input_ids"] == base(TEXT)["input_ids"]


def test_a_merge_leaves_the_base_and_the_run_as_they_were(run_of, tmp_path):
    run = run_of("bert")
    before = load_run(run)
    tensors = {name: tensor.clone() for name, tensor in before.base.model.state_dict().items()}
    measured = evaluate_run(run)
    merged(run, tmp_path / "out")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in before.base.model.state_dict().items())
    assert evaluate_run(run) == measured


def test_a_tied_tensor_is_not_merged_but_exported(run_of, tmp_path):
    """GPT-2's word embedding is its output projection too."""
    with pytest.raises(
        ModelError, match=r"transformer.wte.weight is tied to lm_head.weight.*export an adapter instead"
    ):
        merged(run_of("gpt2 words"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_merged_folder_has_the_numbers_that_are_asked_for_rounded_once(run_of, tmp_path, dtype):
    run = run_of("llama")
    lost = merged(run, tmp_path / "out", dtype)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == dtype
    trained = load_run(run)
    name = "model.layers.0.self_attn.q_proj"
    factors = trained.adapter[name].astype("f8")
    dense = trained.base.model.get_submodule(name).weight.double() + torch.from_numpy(factors.b @ factors.a)
    step = torch.finfo(dtype).eps / 2  # of one rounding, relative
    assert ((tensors[f"{name}.weight"].double() - dense).abs() <= 1.01 * step * dense.abs() + 1e-6).all()
    assert 0 < lost < 0.5


def test_a_run_in_bfloat16_is_merged_from_the_numbers_of_the_checkpoint(run_of, tmp_path):
    """The sum is made in float32, whatever the node loads its base in."""
    run = shutil.copytree(run_of("llama"), tmp_path / "run")
    file = run / "test.toml"
    file.write_text(file.read_text().replace('dtype = "float32"', 'dtype = "bfloat16"'))
    assert load_run(run).base.model.dtype == torch.bfloat16
    merged(run, tmp_path / "low")
    merged(run_of("llama"), tmp_path / "whole")
    low, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("low", "whole"))
    assert all(torch.equal(low[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_type_of_a_checkpoint_is_that_of_most_of_its_numbers(tmp_path, dtype):
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(8, 8, dtype=dtype), "b": torch.zeros(8)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(8)}, tmp_path / "model-2.safetensors")
    shards = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert stored_dtype(tmp_path) == (torch.float32 if dtype == torch.float64 else dtype)


def test_a_run_whose_test_rows_are_gone_is_merged_and_compared_on_a_sentence(run_of, tmp_path):
    run = shutil.copytree(run_of("llama"), tmp_path / "run")
    (run / "test.jsonl").unlink()
    assert merged(run, tmp_path / "out") < 1e-5
