"""Found by use: files beside a base model's weights that are none of them."""

import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

from common.errors import ModelError
from common.huggingface.base_folder import safetensors_files
from common.huggingface.fingerprint import base_hash
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded
from tests.helpers.client.nodes import write_node
from tests.helpers.common.models import logits
from tests.helpers.end_to_end.command import call, settings
from tests.helpers.simulations.runs import BRIEF, write_recipe

RECORDED = "98868516e412b0fd0d45006c9d6d4c90bd9f794547c7b47a8497ed7bee4cc821"
STRAY = ("consolidated.safetensors", "adapter_model.safetensors", "model.fp16.safetensors", "ema.safetensors")


def with_adapter(folder, kind="llama", **noted):
    """Copy a base, and let PEFT save an adapter of it into the same folder."""
    copied(kind, folder)
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj"] if kind == "llama" else ["c_attn"]
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **noted)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(folder)
    assert (folder / "adapter_config.json").exists()
    return folder


@pytest.mark.parametrize("noted", [{}, {"task_type": "CAUSAL_LM"}], ids=["with its class", "with its task"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_found_B5_an_adapter_beside_the_weights_is_not_loaded_and_said(kind, noted, tmp_path, caplog):
    folder = with_adapter(tmp_path / "base", kind, **noted)
    with caplog.at_level(logging.WARNING):
        base = loaded(folder, "causal-lm")
    plain = loaded(tiny_base(kind), "causal-lm")
    assert [name for name, _ in base.model.named_modules()] == [name for name, _ in plain.model.named_modules()]
    assert torch.equal(logits(base.model), logits(plain.model))
    assert base_hash(folder) == base_hash(tiny_base(kind))
    assert f"{folder} has an adapter beside the base model's weights (adapter_config.json), which is not" in caplog.text
    assert "set [base] adapter to this folder" in caplog.text
    taken = AutoModelForCausalLM.from_pretrained(folder)  # control: what Transformers does unasked
    assert not torch.equal(logits(taken), logits(plain.model))


def test_found_B5_a_run_on_such_a_folder_merges_and_may_begin_at_the_adapter(tmp_path):
    folder = with_adapter(tmp_path / "base", task_type="CAUSAL_LM")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"a{i}", "completion": " b"}) + "\n" for i in range(80)))
    recipe = write_recipe(tmp_path, rows, task="causal-lm")
    words = settings(*BRIEF, f"base.path={folder}", "clients.partition=iid")
    for name, more in (("plain", ()), ("begun", settings(f"base.adapter={folder}"))):
        assert call("simulate", recipe, "--out", tmp_path, "--name", name, *words, *more).status == 0
        merged = call("merge", tmp_path / name, tmp_path / f"{name}-merged")
        assert merged.status == 0, merged.err
        gap = float(re.search(r"gap[^0-9]*([0-9.e+-]+[0-9])", merged.out)[1])
        assert gap < 1e-4
        assert not (tmp_path / f"{name}-merged" / "adapter_config.json").exists()


def test_found_B5_an_adapter_folder_alone_is_no_base(tmp_path):
    folder = with_adapter(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"only adapter_model.safetensors, the weights of an adapter; give the folder"):
        loaded(folder, "causal-lm")


@pytest.mark.parametrize("name", STRAY)
def test_found_B6_other_weights_beside_those_that_are_loaded_change_no_fingerprint(name, tmp_path):
    folder, plain = copied("bert", tmp_path / "base"), copied("bert", tmp_path / "plain")
    save_file({"tok_embeddings.weight": np.ones((4, 4), np.float32)}, folder / name)
    assert base_hash(folder) == base_hash(tiny_base("bert"))
    ends = [
        call("client", write_node(tmp_path / each.name, base=str(each)), "--check").out.splitlines()[-1]
        for each in (folder, plain)
    ]
    assert ends[0] == ends[1]
    assert ends[0].startswith("fingerprint ")


def test_found_B6_of_shards_those_of_the_index_are_read(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base("llama"))
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    named = {*json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values()}
    before = base_hash(tmp_path)
    base_hash.cache_clear()
    shutil.copyfile(tmp_path / min(named), tmp_path / "model-00099-of-00099.safetensors")
    (tmp_path / "consolidated.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    assert {file.name for file in safetensors_files(tmp_path)} == named
    assert base_hash(tmp_path) == before == base_hash(tiny_base("llama"))


def test_found_B6_a_whole_file_goes_before_an_index_as_in_transformers(tmp_path):
    folder = copied("bert", tmp_path / "base")
    shutil.copyfile(folder / "model.safetensors", folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert [file.name for file in safetensors_files(folder)] == ["model.safetensors"]


def test_found_B6_only_files_that_are_not_read_are_refused_by_name(tmp_path):
    folder = copied("bert", tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(ModelError, match=r"only consolidated.safetensors, which Transformers does not read; save the"):
        loaded(folder)


def test_found_B6_a_configuration_that_names_another_file_is_refused(tmp_path):
    folder = copied("bert", tmp_path / "base", transformers_weights="other.safetensors")
    shutil.copyfile(folder / "model.safetensors", folder / "other.safetensors")
    with pytest.raises(ModelError, match=r"config.json names weights of its own \(transformers_weights = 'other.safe"):
        loaded(folder)


def test_found_B6_the_hash_of_a_plain_folder_is_as_ever(tmp_path):
    tensors = {"a.weight": np.arange(6, dtype="f4").reshape(2, 3), "b.bias": np.arange(3, dtype="f2")}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert base_hash(tmp_path) == RECORDED
